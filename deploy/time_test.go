package deploy_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/api/rfc3161"
)

// chronyd starts the real one, which neither controls the clock (-x) nor touches what the machine's own has. It returns what stops it.
func chronyd(t *testing.T, folder, name, config string) (stop func()) {
	t.Helper()
	program, err := exec.LookPath("chronyd")
	if err != nil {
		if program, err = exec.LookPath("/usr/sbin/chronyd"); err != nil {
			t.Fatal("chronyd is not installed: run tools/deps.sh test")
		}
	}
	user := strings.TrimSpace(output(t, "id", "--user", "--name"))
	conf := filepath.Join(folder, name+".conf")
	config += fmt.Sprintf("cmdport 0\nuser %s\nbindcmdaddress %s/%s.sock\npidfile %s/%s.pid\n", user, folder, name, folder, name)
	if err := os.WriteFile(conf, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), program, "-x", "-d", "-f", conf)
	c.Stdout, c.Stderr = t.Output(), t.Output()
	c.Cancel, c.WaitDelay = func() error { return c.Process.Signal(os.Interrupt) }, 5*time.Second
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	ended := false
	stop = func() {
		if !ended {
			ended = true
			_ = c.Process.Signal(os.Interrupt)
			_ = c.Wait() // that it was interrupted
		}
	}
	t.Cleanup(stop)
	return stop
}

func output(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// otherAuthority is a time-stamping authority of others: where it answers, and its root certificate in PEM.
func otherAuthority(t *testing.T) (url string, root []byte) {
	t.Helper()
	certify := func(template, parent *x509.Certificate, key, by *ecdsa.PrivateKey) *x509.Certificate {
		template.SerialNumber, template.NotBefore, template.NotAfter = big.NewInt(int64(len(template.Subject.CommonName))), time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
		template.BasicConstraintsValid = true
		der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), by)
		if err != nil {
			t.Fatal(err)
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	var keys [2]*ecdsa.PrivateKey
	for i := range keys {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		keys[i] = key
	}
	top := &x509.Certificate{Subject: pkix.Name{CommonName: "Another Root"}, IsCA: true, KeyUsage: x509.KeyUsageCertSign}
	top = certify(top, top, keys[0], keys[0])
	leaf := certify(&x509.Certificate{Subject: pkix.Name{CommonName: "Another Authority"}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtraExtensions: []pkix.Extension{rfc3161.ExtendedKeyUsage()}}, top, keys[1], keys[0])
	issuer := rfc3161.Issuer{
		Certificate: leaf, Policy: asn1.ObjectIdentifier{1, 2, 3}, Accuracy: time.Second,
		Sign: func(_ context.Context, message []byte) ([]byte, error) {
			sum := sha256.Sum256(message)
			return ecdsa.SignASN1(rand.Reader, keys[1], sum[:])
		},
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		query, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
			return
		}
		request, err := rfc3161.ParseRequest(query)
		if err != nil {
			t.Error(err)
			return
		}
		token, err := issuer.Issue(r.Context(), request, time.Now())
		if err != nil {
			t.Error(err)
			return
		}
		w.Header().Set("Content-Type", "application/timestamp-reply")
		_, _ = w.Write(rfc3161.EncodeResponse(token))
	}))
	t.Cleanup(s.Close)
	return s.URL, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: top.Raw})
}

// The clock is measured by real chronyds, an authority of others time-stamps; then the time servers go away, nothing is signed, and they come back.
func TestTimeRunbook(t *testing.T) {
	t.Attr("requirement", "A-19")
	const runbook = "time.md"
	m := newMachine(t)
	clocks := filepath.Join(m.folder, "chrony")
	if err := os.Mkdir(clocks, 0o700); err != nil { // chrony takes no other
		t.Fatal(err)
	}
	l, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.LocalAddr().(*net.UDPAddr).Port
	l.Close()
	server := fmt.Sprintf("local stratum 1\nallow 127.0.0.1\nbindaddress 127.0.0.1\nport %d\n", port)
	stop := chronyd(t, clocks, "server", server)
	chronyd(t, clocks, "client", fmt.Sprintf("server 127.0.0.1 port %d iburst minpoll -4 maxpoll -4\nport 0\n", port))
	// The machine's own clock is right, and is left alone.
	chronyc := fmt.Sprintf("#!/bin/sh\n[ \"$*\" != makestep ] || { echo '200 OK'; exit; }\nPATH=${PATH#*:} exec chronyc -h %s/client.sock \"$@\"\n", clocks)
	if err := os.WriteFile(filepath.Join(m.folder, "bin", "chronyc"), []byte(chronyc), 0o700); err != nil {
		t.Fatal(err)
	}
	const synchronised = "for _ in $(seq 300); do ! chronyc waitsync 1 0.1 || exit 0; sleep 0.1; done; exit 1"
	m.must(t, synchronised)

	url, root := otherAuthority(t)
	roots := filepath.Join(m.folder, "another-root.pem")
	if err := os.WriteFile(roots, root, 0o600); err != nil {
		t.Fatal(err)
	}
	m.env = append(m.env, "ADMIN=grace", "SIGNER=ada", fmt.Sprintf(`CLOCKS=chrony, ntp:127.0.0.1:%d`, port), "TSA_URL="+url, "TSA_ROOTS="+roots)
	m.must(t, `sed -i "/^timestamp:/,/^[a-z]/s|^    every:.*|    every: 1s|" "$DATA/signetd.yaml"`)
	login := `
. /dev/stdin <<'RUN'
signet() { # the administrator's session ends when the service does
	case $* in
	*--profile\ grace*) command signet login --profile grace --server "$ADDRESS" --ca "$DATA/tls/server.pem" --user grace --password-file "$ROOT/grace.password" >/dev/null ;;
	esac
	command signet "$@"
}
RUN
`
	carryOut := func(sections ...string) string {
		var script strings.Builder
		script.WriteString(login)
		for _, b := range blocks(t, runbook) {
			for _, section := range sections {
				if b.heading == section {
					fmt.Fprintf(&script, "echo '# %s:%d'\n%s\n", runbook, b.line, b.text)
				}
			}
		}
		return m.must(t, script.String())
	}
	out := carryOut("Set this first", "Let chrony keep the clock", "Name those who measure it", "Try an authority of others", "Let it time-stamp signatures")
	for _, want := range []string{"127.0.0.1", "clock.changed", "Status: Granted.", "Verification: OK"} {
		if !strings.Contains(out, want) {
			t.Errorf("it does not say %q:\n%s", want, out)
		}
	}
	m.signs(t, "v1.0.0")
	file, err := os.ReadFile(filepath.Join(m.folder, "signatures", "release-v1.0.0.json"))
	if err != nil {
		t.Fatal(err)
	}
	signed, err := manifest.Parse(file)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(signed.Signatures[0].Timestamps); n != 2 {
		t.Errorf("the signature has %d time-stamps, want the authority's of others, too", n)
	}

	stop()
	m.must(t, `for _ in $(seq 300); do ! grep -q "1 of 2 sources vouch" "$ROOT/signetd.log" || exit 0; sleep 0.1; done; exit 1`)
	if out, err := m.bash(t.Context(), m.signing("v1.1.0")); err == nil || !strings.Contains(out, "sources vouch that it is within 1s") {
		t.Fatalf("signed although nobody vouches for the clock: %v\n%s", err, out)
	}
	chronyd(t, clocks, "server", server)
	m.must(t, synchronised)
	out = carryOut("Set this first", "When time is in doubt")
	if !strings.Contains(out, "level=ERROR msg=clock") || strings.Count(out, "clock.changed") < 4 {
		t.Errorf("it says\n%s", out)
	}
	m.signs(t, "v1.2.0")
}
