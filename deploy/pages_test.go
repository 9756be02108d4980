package deploy_test

import (
	"encoding/json/v2"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/signetd/signet/api/verify"
)

// The page as it stands, on a machine that has nothing but the programs of a distribution: built from a clone of this repository, installed, with
// a token, a service and an administrator; and then with another build of it.
func TestInstallation(t *testing.T) {
	t.Attr("requirement", "B-27")
	const page = "deploy/installation.md"
	source, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	m := bareMachine(t)
	for _, folder := range []string{"units", "programs"} {
		if err := os.Mkdir(filepath.Join(m.folder, folder), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	m.env = append(m.env, "SOURCE="+source, "BIN="+m.folder+"/programs", "ETC="+m.folder+"/etc", "UNITS="+m.folder+"/units", "LISTEN="+m.address, "SERVER="+m.address,
		"ISSUER=https://localhost:8443", "ORIGIN=localhost/ledger", "ADMIN_PASSWORD="+m.folder+"/grace.password",
		"PATH="+m.folder+"/bin:"+m.folder+"/programs:/usr/local/go/bin:"+os.Getenv("PATH"))
	m.must(t, `head -c 18 /dev/urandom | base64 >"$ROOT/grace.password" && chmod 600 "$ROOT/grace.password"`)
	out := m.carryOut(t, page, "Set this first", "Build from source", "User, folders, unit", "Make the service: validation, on SoftHSM2", "Start it",
		"The first administrator", "Hand out the trust file", "Another version")
	for _, want := range []string{"v0.1.0", "active", "msg=serving", "Accountability", "localhost/ledger", "signet-trust.json"} {
		if !strings.Contains(out, want) {
			t.Errorf("it does not say %q:\n%s", want, out)
		}
	}
	unit, err := os.ReadFile(filepath.Join(m.folder, "units", "signetd.service"))
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("installation.md")
	if err != nil {
		t.Fatal(err)
	}
	// The unit is for the names that the page proposes.
	for _, name := range []string{"/usr/local/bin", "/etc/signet", "/var/lib/signet"} {
		if !strings.Contains(string(unit), name+"/") || !strings.Contains(string(text), ":="+name+"}") {
			t.Errorf("%s is not in both the unit and the page", name)
		}
	}
	if b, err := os.ReadFile(filepath.Join(m.folder, "accounts")); err != nil || !strings.Contains(string(b), "useradd --system") {
		t.Errorf("%v: %s", err, b)
	}
	m.must(t, `systemctl stop signetd && systemd-run -- signetd ledger check --config "$DATA/signetd.yaml"`)
}

// The README and the pages on signing and verification, as they stand, in one service.
func TestPages(t *testing.T) {
	for _, row := range []string{"B-29", "B-30", "B-32"} {
		t.Attr("requirement", row)
	}
	source, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	m := newMachine(t)
	m.env = append(m.env, "PASSWORD="+m.folder+"/ada.password", "SECOND_PASSWORD="+m.folder+"/bea.password", "BUNDLE=dist", "FILE=app.exe",
		"TRUST="+m.folder+"/signet-trust.json", "SOURCE="+source)
	m.must(t, `
connect="--server $ADDRESS --ca $DATA/tls/server.pem"
cp max.password bea.password
signet signer enroll --profile grace --user bea --name "Bea Lindqvist" --zone UTC --role signer --proofing-method passport --proofing-reference 3 --code-out bea.code
signet signer redeem $connect --user bea --code-file bea.code --password-file bea.password --accept-accountability
signet login --profile bea $connect --user bea --password-file bea.password
signet role assign max --profile grace --role auditor --reason "reads the ledger"
cp "$DATA/signet-trust.json" .
ln -s data var
mkdir dist
head -c 100000 /dev/urandom >dist/app.exe
echo "all green" >dist/report.txt
git init -q -b main
git config user.email test@example.com
git config user.name Test
git commit -q --allow-empty -m begin
git update-ref refs/remotes/origin/main HEAD`)

	t.Run("signing", func(t *testing.T) {
		out := m.carryOut(t, "deploy/signing.md", "Set this first", "What is signed", "Make the record", "Sign", "Two approvers", "Reject, and withdraw",
			"Bring it into the repository")
		for _, want := range []string{"report.txt", "Signed: Ada Lovelace, approve", "Signed: Bea Lindqvist, approve", "Signed: Ada Lovelace, reject",
			"signatures/release-v1.0.0.json", "All gates green, risk file reviewed.", "not satisfied"} {
			if !strings.Contains(out, want) {
				t.Errorf("it does not say %q:\n%s", want, out)
			}
		}
	})
	t.Run("verification", func(t *testing.T) {
		m.env = append(m.env, "SIGNET_PROFILE=auditor") // who has never spoken to the service
		defer func() { m.env = m.env[:len(m.env)-1] }()
		out := m.carryOut(t, "deploy/verification.md", "Set this first", "Pin the trust file", "Verify", "As of a time", "One file", "With other people's tools", "A second opinion",
			"On a machine without a network", "In continuous integration")
		for _, want := range []string{"VERIFIED", "changed: it was signed", "APPROVED", "app.exe", "Ada Lovelace approve 20", "2 of 2"} {
			if !strings.Contains(out, want) {
				t.Errorf("it does not say %q:\n%s", want, out)
			}
		}
		// What a live service writes is as the published schemas say.
		m.must(t, `cd "$SOURCE/api/manifest/schematest" && go build -o "$ROOT/bin/schematest" . && "$ROOT/bin/schematest" manifest "$ROOT"/signatures/*.json && "$ROOT/bin/schematest" trust "$TRUST"`)
		b, err := os.ReadFile(filepath.Join(m.folder, "verification", "report.json"))
		var report verify.Report
		if err != nil || json.Unmarshal(b, &report) != nil || report.Code != verify.OK {
			t.Errorf("%v: %s", err, b)
		}
	})
	t.Run("readme", func(t *testing.T) {
		m.must(t, `signet login --profile max --server "$ADDRESS" --ca "$DATA/tls/server.pem" --user max --password-file "$ROOT/max.password" # the newest profile`)
		password, err := os.ReadFile(filepath.Join(m.folder, "ada.password"))
		if err != nil {
			t.Fatal(err)
		}
		m.must(t, `softhsm2-util --init-token --free --label test --pin 123456 --so-pin 123456 >"$ROOT/init" && echo 123456 >pin && chmod 600 pin`)
		script := m.script(t, readme, "Sign and verify", "Keys and HSMs", "Read the ledger", "Backups, and entries that get old", "Witnesses")
		out := m.types(t, script, []string{"What do you decide?", "approve", "What does your signature mean?", "1", "Why?", "All gates green.", "Type v0.1.0", "v0.1.0",
			"User name:", "ada", "Password:", strings.TrimSpace(string(password))})
		for _, want := range []string{"Signed: Ada Lovelace, approve", "is part of", "holds", "FIT", "working", "signature.prepared", "restored and checked", "witness.example/w1+"} {
			if !strings.Contains(out, want) {
				t.Errorf("it does not say %q:\n%s", want, out)
			}
		}
	})
}

// types runs a script at a terminal, and types an answer after each question: question, answer, question, answer.
func (m *machine) types(t *testing.T, script string, dialogue []string) string {
	t.Helper()
	list, err := json.Marshal(dialogue)
	if err != nil {
		t.Fatal(err)
	}
	m.env = append(m.env, "SCRIPT="+script, "DIALOGUE="+string(list))
	defer func() { m.env = m.env[:len(m.env)-2] }()
	out := m.must(t, `exec python3 -c '
import json, os, pty, sys
dialogue, seen = json.loads(os.environ["DIALOGUE"]), b""
pid, terminal = pty.fork()
if pid == 0:
    os.execvp("bash", ["bash", "-euo", "pipefail", "-c", os.environ["SCRIPT"]])
while True:
    try:
        said = os.read(terminal, 4096)
    except OSError:
        break
    if not said:
        break
    sys.stdout.buffer.write(said)
    seen += said
    if dialogue and dialogue[0].encode() in seen:
        seen = b""
        os.write(terminal, dialogue[1].encode() + b"\n")
        del dialogue[:2]
sys.stdout.flush()
if dialogue:
    sys.exit("it did not ask: " + dialogue[0])
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
'`)
	ran = append(ran, script)
	return strings.ReplaceAll(out, "\r\n", "\n")
}

// The transcripts in the documents are what really comes, but for digests and for lines that are left out with "…".
func TestTranscripts(t *testing.T) {
	t.Attr("requirement", "B-32")
	built, err := binaries()
	if err != nil {
		t.Fatal(err)
	}
	sample, err := filepath.Abs("../api/verify/testdata/v1")
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	c := exec.CommandContext(t.Context(), "bash", "-euc", `ln -s "$1" v1 && mkdir -p example/bin
for file in SHA256SUMS bin/signet; do printf %s "$file" >"example/$file"; done
echo changed >example/index.json`, "-", sample)
	c.Dir = folder
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	digest := regexp.MustCompile(`\b[0-9a-f]{64}\b`)
	checked := 0
	for _, path := range documents(t) {
		for _, b := range document(t, path) {
			if b.language != "console" {
				continue
			}
			for part := range strings.SplitSeq("\n"+b.text, "\n$ ") {
				command, want, said := strings.Cut(part, "\n")
				if !said {
					continue
				}
				c := exec.CommandContext(t.Context(), "bash", "-c", command)
				c.Dir, c.Env = folder, append(os.Environ(), "PATH="+built+":"+os.Getenv("PATH"), "SIGNET_CONFIG_DIR="+folder+"/client", "TZ=UTC")
				out, _ := c.CombinedOutput() // with whatever code
				lines := strings.Split(regexp.QuoteMeta(digest.ReplaceAllString(want, "DIGEST")), "\n")
				for i, line := range lines {
					if line == "…" {
						lines[i] = "(?s:.*)"
					}
				}
				if !regexp.MustCompile(`^` + strings.Join(lines, "\n") + `\s*$`).MatchString(digest.ReplaceAllString(string(out), "DIGEST")) {
					t.Errorf("%s:%d: %s\nsays\n%s\nand not\n%s", path, b.line, command, out, want)
				}
				checked++
			}
		}
	}
	if checked < 2 {
		t.Errorf("%d transcripts", checked)
	}
}

// The table of verdicts in the page on verification is that of the verifier, and the reasons of refusals in the page on signing are those of
// the service.
func TestTablesOfPages(t *testing.T) {
	t.Attr("requirement", "B-32")
	page, err := os.ReadFile("verification.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := regexp.MustCompile("(?m)^\\| (\\d+) \\| `(\\w+)` \\|").FindAllStringSubmatch(string(page), -1)
	for _, row := range rows {
		n, _ := strconv.Atoi(row[1])
		if verify.Code(n).String() != row[2] {
			t.Errorf("the page says %s for %d, and the verifier %s", row[2], n, verify.Code(n))
		}
	}
	if len(rows) != 10 {
		t.Errorf("%d verdicts", len(rows))
	}
	if page, err = os.ReadFile("signing.md"); err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("../server/errors.go")
	if err != nil {
		t.Fatal(err)
	}
	reasons := regexp.MustCompile("(?m)^\\| `([A-Z_]+)` \\|").FindAllStringSubmatch(string(page), -1)
	for _, reason := range reasons {
		if reason[1] != "UNAVAILABLE" && !strings.Contains(string(source), fmt.Sprintf("%q", reason[1])) {
			t.Errorf("the service never says %s", reason[1])
		}
	}
	if len(reasons) < 5 {
		t.Errorf("%d reasons", len(reasons))
	}
}
