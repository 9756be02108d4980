package deploy_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/signetd/signet/keystore/pkcs11"
)

// A runbook's blocks of shell are run as they stand, in one shell, one after the other. What a machine of production has and a
// test has not stands in the PATH before the real thing: systemctl, systemd-run, journalctl and runuser.

// blocks returns the blocks of shell of a runbook, or of a document that is named from the root of the repository.
func blocks(t *testing.T, name string) []block {
	t.Helper()
	if !strings.Contains(name, "/") && name != readme {
		name = "deploy/runbooks/" + name
	}
	return shell(t, name)
}

// built is the folder of the programs, once somebody has wanted them.
var built string

// binaries builds signet and signetd, once.
var binaries = sync.OnceValues(func() (folder string, err error) {
	if built, err = os.MkdirTemp("", "signet-runbooks-"); err != nil {
		return "", err
	}
	for name, cgo := range map[string]string{"signet": "0", "signetd": "1"} { // as the Makefile does
		c := exec.Command("go", "build", "-trimpath", "-ldflags", "-X main.version=v0.1.0", "-o", built, "../cmd/"+name)
		c.Env = append(os.Environ(), "CGO_ENABLED="+cgo)
		if out, err := c.CombinedOutput(); err != nil {
			return "", fmt.Errorf("go build: %w: %s", err, out)
		}
	}
	return built, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if built != "" {
		os.RemoveAll(built)
	}
	os.Exit(code)
}

// A machine is where the runbooks are carried out: a folder with the service, its data and its token.
type machine struct {
	folder  string
	address string
	env     []string
}

// The programs of a machine that a test has not. The service runs as whoever runs the test.
var programs = map[string]string{
	"systemctl": `
pid=$ROOT/signetd.pid log=$ROOT/signetd.log
running() { [ -e "$pid" ] && kill -0 "$(cat "$pid")" 2>/dev/null && [ "$(sed 's/.*) //; s/ .*//' "/proc/$(cat "$pid")/stat")" != Z ]; }
stop() {
	running || return 0
	kill "$(cat "$pid")"
	while running; do sleep 0.05; done
}
start() {
	: >"$log"
	[ ! -d "$ROOT/credentials" ] || export CREDENTIALS_DIRECTORY="$ROOT/credentials"
	setsid signetd serve --config "$DATA/signetd.yaml" </dev/null >>"$log" 2>&1 &
	echo $! >"$pid"
	for _ in $(seq 600); do
		running || { cat "$log" >&2; echo "Job for signetd.service failed." >&2; exit 1; }
		! grep -q msg=serving "$log" || return 0
		sleep 0.1
	done
	cat "$log" >&2
	exit 1
}
[ "$*" != daemon-reload ] || exit 0
[ "$*" != "enable --now signetd" ] || { [ -e "$UNITS/signetd.service" ] && set -- start signetd; }
[ "$2" = signetd ] || { echo "systemctl $*: not in this test" >&2; exit 1; }
case $1 in
stop) stop ;;
start) running || start ;;
restart) stop; start ;;
is-active) if running; then echo active; else echo failed; exit 3; fi ;;
*) echo "systemctl $*: not in this test" >&2; exit 1 ;;
esac`,
	"journalctl": `cat "$ROOT/signetd.log"`,
	"systemd-run": `
[ ! -d "$ROOT/credentials" ] || export CREDENTIALS_DIRECTORY="$ROOT/credentials"
while [ "$1" != -- ]; do shift; done
shift
exec "$@"`,
	"systemd-creds": `
[ "$1 $2 $3" = "encrypt --name=hsm-pin -" ] || { echo "systemd-creds $*: not in this test" >&2; exit 1; }
mkdir -p "$ROOT/credentials"
tee "$ROOT/credentials/hsm-pin" >"$4"`,
	"useradd": `echo "useradd $*" >>"$ROOT/accounts"`,
	"chown":   `echo "chown $*" >>"$ROOT/accounts"`,
	"install": `
for arg; do # the service runs as whoever runs the test
	shift
	case $arg in
	-o | -g) skip=1 ;;
	*) [ -z "${skip-}" ] && set -- "$@" "$arg"; skip= ;;
	esac
done
exec /usr/bin/install "$@"`,
	"runuser": `
while [ "$1" != -- ]; do shift; done
shift
exec "$@"`,
}

// newMachine makes a service with an administrator and a signer, and starts it.
func newMachine(t *testing.T) *machine {
	t.Helper()
	m := bareMachine(t)
	m.env = append(m.env, "SOFTHSM2_CONF="+m.folder+"/data/token/softhsm2.conf")
	m.must(t, setUp)
	return m
}

// bareMachine has the programs, and no service.
func bareMachine(t *testing.T) *machine {
	t.Helper()
	built, err := binaries()
	if err != nil {
		t.Fatal(err)
	}
	module, err := pkcs11.FindSoftHSM()
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	m := &machine{folder: t.TempDir(), address: l.Addr().String()}
	bin, data := filepath.Join(m.folder, "bin"), filepath.Join(m.folder, "data")
	for _, folder := range []string{bin, filepath.Join(m.folder, "backup")} {
		if err := os.Mkdir(folder, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range programs {
		if err := os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\nset -eu\n"+text+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	m.env = append(os.Environ(), "PATH="+bin+":"+built+":"+os.Getenv("PATH"), "ROOT="+m.folder, "ADDRESS="+m.address, "MODULE="+module,
		"DATA="+data, "TOKEN="+data+"/token", "BACKUPS="+m.folder+"/backup", "PINFILE="+data+"/token/user.pin",
		"SOFTHSM2_CONF="+data+"/token/softhsm2.conf", "SIGNET_CONFIG_DIR="+m.folder+"/client", "CONFIG="+data+"/signetd.yaml")
	t.Cleanup(func() {
		if out, err := m.bash(context.WithoutCancel(t.Context()), "systemctl stop signetd"); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	})
	return m
}

const setUp = `
signetd init --data "$DATA" --environment demo --listen "$ADDRESS" --admin-user grace --admin-name "Grace Hopper"
systemctl start signetd
for person in grace ada max; do head -c 18 /dev/urandom | base64 >"$ROOT/$person.password"; done
chmod 600 "$ROOT"/*.password
connect="--server $ADDRESS --ca $DATA/tls/server.pem"
signet signer redeem $connect --user grace --code-file "$DATA/administrator.code" --password-file "$ROOT/grace.password" --accept-accountability
signet login --profile grace $connect --user grace --password-file "$ROOT/grace.password"
signet signer enroll --profile grace --user ada --name "Ada Lovelace" --title "QA Lead" --zone UTC --role signer \
	--proofing-method passport --proofing-reference 1 --code-out "$ROOT/ada.code"
signet signer enroll --profile grace --user max --name "Max Miller" --title "Release Manager" --zone UTC --role release_manager \
	--proofing-method passport --proofing-reference 2 --code-out "$ROOT/max.code"
for person in ada max; do
	signet signer redeem $connect --user $person --code-file "$ROOT/$person.code" --password-file "$ROOT/$person.password" --accept-accountability
	signet login --profile $person $connect --user $person --password-file "$ROOT/$person.password"
done
signet trust add --profile ada "$DATA/signet-trust.json"
`

func (m *machine) bash(ctx context.Context, script string) (string, error) {
	c := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", script)
	c.Env = m.env
	c.Dir = m.folder
	out, err := c.CombinedOutput()
	if err == nil {
		ran = append(ran, script)
	}
	return string(out), err
}

// must runs a script that has to succeed, and returns what it said.
func (m *machine) must(t *testing.T, script string) string {
	t.Helper()
	out, err := m.bash(t.Context(), script)
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, script, out)
	}
	return out
}

// carryOut runs the blocks of some sections of a runbook in one shell.
func (m *machine) carryOut(t *testing.T, runbook string, sections ...string) string {
	t.Helper()
	return m.must(t, m.script(t, runbook, sections...))
}

// script is the blocks of some sections of a runbook.
func (m *machine) script(t *testing.T, runbook string, sections ...string) string {
	t.Helper()
	var script strings.Builder
	all := blocks(t, runbook)
	for _, section := range sections {
		if !slices.ContainsFunc(all, func(b block) bool { return b.heading == section }) {
			t.Fatalf("%s has no shell in a section %q", runbook, section)
		}
	}
	for _, b := range all {
		if slices.Contains(sections, b.heading) {
			fmt.Fprintf(&script, "echo '# %s:%d'\n%s\n", runbook, b.line, b.text)
		}
	}
	return script.String()
}

// signs lets the signer sign a new record, and verifies that offline.
func (m *machine) signs(t *testing.T, version string) {
	t.Helper()
	t.Log(m.must(t, m.signing(version)))
}

// signing is how a record is made, signed and verified.
func (m *machine) signing(version string) string {
	return `
connect="--server $ADDRESS --ca $DATA/tls/server.pem"
for person in ada max; do signet login --profile $person $connect --user $person --password-file "$ROOT/$person.password"; done
bundle=$ROOT/release-` + version + `
mkdir "$bundle"
date >"$bundle/file"
signet record create --profile max --bundle "$bundle" --type release --product signet --version ` + version + ` --title Test --approver ada \
	--repository https://git.example/signet --commit 0123456789abcdef0123456789abcdef01234567 --branch main
record=$(signet record list --profile max --json | sed -n 's/.*"name": *"\(records\/[0-9a-f-]*\)".*/\1/p' | head -n 1)
signet sign "$record" --profile ada --bundle "$bundle" --decision approve --meaning release-approval --reason "It is a test." \
	--user ada --password-file "$ROOT/ada.password" --yes
signet verify --profile ada --bundle "$bundle" --manifest "$ROOT/signatures/release-` + version + `.json"
`
}

func TestBackupAndRestore(t *testing.T) {
	t.Attr("requirement", "B-31")
	const runbook = "token-backup-and-restore.md"
	m := newMachine(t)
	m.signs(t, "v1.0.0")
	out := m.carryOut(t, runbook, "Set this first", "Make a backup (SoftHSM2)", "Try the backup")
	if !strings.Contains(out, "the ledger checks") || !strings.Contains(out, "active") {
		t.Errorf("it says\n%s", out)
	}
	if list := m.must(t, `tar --list --file "$BACKUPS"/token-*.tar`); strings.Contains(list, ".pin") || !strings.Contains(list, "token.object") {
		t.Errorf("the archive has\n%s", list)
	}
	m.signs(t, "v1.1.0") // after the backup

	m.must(t, `systemctl stop signetd && rm -r "$TOKEN/tokens" && mkdir "$TOKEN/tokens"`)
	if out, err := m.bash(t.Context(), "systemctl start signetd"); err == nil {
		t.Fatalf("the service serves without its token\n%s", out)
	} else if !strings.Contains(out, "no token with label") {
		t.Errorf("it says\n%s", out)
	}
	m.env = append(m.env, "STAMP="+m.stamp(t))
	m.must(t, `systemctl stop signetd`)
	out = m.carryOut(t, runbook, "Set this first", "Restore (SoftHSM2)")
	if !strings.Contains(out, ": OK") || !strings.Contains(out, "active") {
		t.Errorf("it says\n%s", out)
	}
	m.signs(t, "v1.2.0")
	m.must(t, `systemctl stop signetd && signetd ledger check --config "$CONFIG"`)
}

// stamp is that of the one backup.
func (m *machine) stamp(t *testing.T) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(m.folder, "backup", "SHA256SUMS-*"))
	if err != nil || len(found) != 1 {
		t.Fatalf("%v, %v", found, err)
	}
	_, stamp, _ := strings.Cut(filepath.Base(found[0]), "-")
	return stamp
}

// The ceremony as it stands makes a service of production on a token that was empty.
func TestKeyCeremony(t *testing.T) {
	t.Attr("requirement", "B-31")
	m := bareMachine(t)
	conf := filepath.Join(m.folder, "softhsm2.conf")
	if err := pkcs11.WriteSoftHSMConf(conf, filepath.Join(m.folder, "tokens")); err != nil {
		t.Fatal(err)
	}
	m.env = append(m.env, "SOFTHSM2_CONF="+conf, "CREDENTIAL="+m.folder+"/hsm-pin.cred", "SO_PIN=officer-1234", "LISTEN="+m.address,
		"LABEL=ceremony", "ISSUER=https://localhost:8443", "ORIGIN=localhost/ledger", "SERVER="+m.address, "ADMIN_PASSWORD="+m.folder+"/grace.password")
	m.must(t, `(umask 077; head -c 18 /dev/urandom | base64 >"$ADMIN_PASSWORD")`)
	out := m.carryOut(t, "key-ceremony.md", "Set this first", "Protocol")
	for _, want := range []string{"The service is made.", "active", "Accountability", "ca-1", "CKA_NEVER_EXTRACTABLE"} {
		if !strings.Contains(out, want) {
			t.Errorf("it does not say %q:\n%s", want, out)
		}
	}
	pin, err := os.ReadFile(filepath.Join(m.folder, "hsm-pin.cred"))
	if err != nil || len(pin) != 24 || strings.Contains(out, string(pin)) {
		t.Errorf("the PIN is of %d bytes, and is shown: %t, %v", len(pin), strings.Contains(out, string(pin)), err)
	}
	list, err := pkcs11.Tokens(m.value("MODULE"), conf)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(list, func(info pkcs11.TokenInfo) bool { return info.Label == "ceremony" && info.Initialized }) {
		t.Errorf("the tokens are %+v", list)
	}
}

// The life of keys as the runbook says: seen, rotated, disabled and enabled, revoked with their owner, destroyed by two.
func TestKeyManagement(t *testing.T) {
	t.Attr("requirement", "B-31")
	m := newMachine(t)
	m.must(t, secondAdministrator)
	m.env = append(m.env, "FIRST_PASSWORD="+m.folder+"/grace.password", "SECOND_PASSWORD="+m.folder+"/olga.password")
	m.signs(t, "v1.0.0")
	out := m.carryOut(t, "key-management.md", "Set this first", "See them", "Rotate", "Disable and enable", "Revoke", "Destroy")
	for _, want := range []string{"tsa-1", "Takes the place of", "retired", "disabled", "revoked", "destroyed"} {
		if !strings.Contains(out, want) {
			t.Errorf("it does not say %q:\n%s", want, out)
		}
	}
	// What the destroyed key signed, and the rotated authority stamped, goes on verifying.
	m.must(t, `signet verify --profile ada --bundle "$ROOT/release-v1.0.0" --manifest "$ROOT/signatures/release-v1.0.0.json"`)
	m.must(t, `systemctl stop signetd && signetd ledger check --config "$CONFIG"`)
}

// secondAdministrator enrols olga.
const secondAdministrator = `head -c 18 /dev/urandom | base64 >"$ROOT/olga.password" && chmod 600 "$ROOT/olga.password"
connect="--server $ADDRESS --ca $DATA/tls/server.pem"
signet signer enroll --profile grace --user olga --name "Olga Officer" --zone UTC --role administrator --proofing-method passport --proofing-reference 3 --code-out "$ROOT/olga.code"
signet signer redeem $connect --user olga --code-file "$ROOT/olga.code" --password-file "$ROOT/olga.password" --accept-accountability
signet login --profile olga $connect --user olga --password-file "$ROOT/olga.password"`

// value is a variable of the machine's environment.
func (m *machine) value(name string) string {
	for _, v := range slices.Backward(m.env) {
		if value, ok := strings.CutPrefix(v, name+"="); ok {
			return value
		}
	}
	return ""
}

func TestPINRotation(t *testing.T) {
	t.Attr("requirement", "B-31")
	m := newMachine(t)
	old, err := os.ReadFile(filepath.Join(m.folder, "data/token/user.pin"))
	if err != nil {
		t.Fatal(err)
	}
	out := m.carryOut(t, "pin-rotation.md", "Set this first", "Change it")
	if !strings.Contains(out, "PIN successfully changed") {
		t.Errorf("it says\n%s", out)
	}
	m.signs(t, "v1.0.0") // goes on meanwhile
	out = m.carryOut(t, "pin-rotation.md", "Set this first", "Check the result")
	if !strings.Contains(out, "active") {
		t.Errorf("it says\n%s", out)
	}
	m.signs(t, "v1.1.0")
	now, err := os.ReadFile(filepath.Join(m.folder, "data/token/user.pin"))
	if err != nil || bytes.Equal(old, now) || len(now) != 25 {
		t.Errorf("the PIN is of %d bytes, the same as before: %t, %v", len(now), bytes.Equal(old, now), err)
	}
	info, err := os.Stat(filepath.Join(m.folder, "data/token/user.pin"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}

	// With the old PIN the service does not start, and says so.
	if err := os.WriteFile(filepath.Join(m.folder, "data/token/user.pin"), old, 0o600); err != nil {
		t.Fatal(err)
	}
	m.must(t, "systemctl stop signetd")
	out, err = m.bash(t.Context(), "systemctl start signetd")
	if err == nil || !strings.Contains(out, "the HSM refused the PIN") || !strings.Contains(out, "CKR_PIN_INCORRECT") {
		t.Errorf("%v\n%s", err, out)
	}
	if strings.Contains(out, strings.TrimSpace(string(old))) {
		t.Error("the log tells the PIN")
	}
	if err := os.WriteFile(filepath.Join(m.folder, "data/token/user.pin"), now, 0o600); err != nil {
		t.Fatal(err)
	}
}

// While the token is gone nothing is signed, and the caller learns that it is for now; it comes back by itself.
func TestHSMGone(t *testing.T) {
	m := newMachine(t)
	// SoftHSM signs with copies in its memory even while its folder is gone; without copies it is as other devices are.
	m.must(t, `systemctl stop signetd && sed -i 's/sessionCopies: true/sessionCopies: false/' "$CONFIG" && systemctl start signetd`)
	m.signs(t, "v1.0.0")
	m.must(t, `mv "$TOKEN/tokens" "$TOKEN/away"`)
	out, err := m.bash(t.Context(), m.signing("v1.1.0"))
	if err == nil || !strings.Contains(out, "UNAVAILABLE") {
		t.Errorf("signed without the token: %v\n%s", err, out)
	}
	t.Log(out)
	out = m.carryOut(t, "hsm-gone.md", "Look")
	t.Log(out)
	m.must(t, `mv "$TOKEN/away" "$TOKEN/tokens"`)
	limit, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for i := 0; ; i++ {
		out, err := m.bash(limit, m.signing(fmt.Sprintf("v1.2.%d", i)))
		if err == nil {
			break
		}
		if limit.Err() != nil {
			t.Fatalf("it does not come back\n%s", out)
		}
	}
	m.must(t, `systemctl stop signetd && signetd ledger check --config "$CONFIG"`)
}

// What the runbooks say that the log says is what the programs say.
func TestRunbookMessages(t *testing.T) {
	var source strings.Builder
	for _, folder := range []string{"../keystore", "../server", "../cmd"} {
		err := filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			b, err := os.ReadFile(path)
			source.Write(b)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	text := regexp.MustCompile(`" \+\s+"`).ReplaceAllString(source.String(), "") // constants over several lines
	quoted := regexp.MustCompile("`([^`]+)`")
	checked := 0
	for _, name := range []string{"hsm-gone.md", "pin-rotation.md", "ledger-restore.md", "retention.md", "rights-and-review.md"} {
		b, err := os.ReadFile(filepath.Join("runbooks", name))
		if err != nil {
			t.Fatal(err)
		}
		inside := false
		for line := range strings.Lines(string(b)) {
			switch {
			case strings.HasPrefix(line, "| the log"):
				inside = true
			case !strings.HasPrefix(line, "|"):
				inside = false
			case inside:
				first, _, _ := strings.Cut(strings.TrimPrefix(line, "|"), "|")
				for _, m := range quoted.FindAllStringSubmatch(first, -1) {
					for part := range strings.SplitSeq(m[1], "…") {
						part = strings.Trim(part, " :;")
						if strings.HasPrefix(part, "CKR_") || part == "" {
							continue
						}
						checked++
						if !strings.Contains(text, part) {
							t.Errorf("%s: nothing says %q", name, part)
						}
					}
				}
			}
		}
	}
	if checked < 12 {
		t.Errorf("%d messages were found", checked)
	}
}

// Every block of shell is shell, and every command and flag of ours in it exists.
func TestRunbookCommands(t *testing.T) {
	built, err := binaries()
	if err != nil {
		t.Fatal(err)
	}
	command := regexp.MustCompile(`(?:^|[\n |(;` + "`" + `])(signetd?)((?: [a-z][a-z-]*)+)((?: [^|;&\n` + "`" + `]*)?)`)
	flag := regexp.MustCompile(`(?:^| )(--[a-z][a-z-]*)`)
	helps := make(map[string]string)
	for _, name := range documents(t) {
		t.Run(filepath.Base(name), func(t *testing.T) {
			for _, b := range shell(t, name) {
				c := exec.CommandContext(t.Context(), "bash", "-n", "-c", b.text)
				if out, err := c.CombinedOutput(); err != nil {
					t.Errorf("line %d: %v: %s", b.line, err, out)
				}
			}
			content, err := os.ReadFile(filepath.Join("..", name))
			if err != nil {
				t.Fatal(err)
			}
			text := strings.ReplaceAll(string(content), "\\\n", " ")
			text = regexp.MustCompile(`\$\((?:date|sha256sum|git|head|jq) [^)]*\)`).ReplaceAllString(text, "") // whose flags are not ours
			for _, m := range command.FindAllStringSubmatch(text, -1) {
				words := strings.Fields(m[2])
				help, path := "", ""
				for n := len(words); n > 0 && help == ""; n-- { // the last words may be arguments
					path = m[1] + " " + strings.Join(words[:n], " ")
					if _, known := helps[path]; !known {
						helps[path] = helpOf(t, built, m[1], words[:n])
					}
					help = helps[path]
				}
				group := strings.Contains(help, "\n  "+path+" [command]") // which takes no arguments, but for its own commands
				if help == "" || group && path != m[1]+m[2] && words[0] != "help" {
					t.Errorf("there is no command %s%s", m[1], m[2])
					continue
				}
				for _, f := range flag.FindAllStringSubmatch(m[3], -1) {
					if !strings.Contains(help, f[1]+" ") && !strings.Contains(help, f[1]+"\n") {
						t.Errorf("%s has no flag %s", path, f[1])
					}
				}
			}
		})
	}
}

// helpOf is the help of a command, or "" if there is none of that name.
func helpOf(t *testing.T, built, program string, words []string) string {
	t.Helper()
	c := exec.CommandContext(t.Context(), filepath.Join(built, program), append(slices.Clone(words), "--help")...)
	out, err := c.Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	_, usage, _ := strings.Cut(string(out), "Usage:\n  ")
	usage, _, _ = strings.Cut(usage, "\n")
	if err != nil || !strings.HasPrefix(usage+" ", program+" "+strings.Join(words, " ")+" ") {
		return ""
	}
	return string(out)
}
