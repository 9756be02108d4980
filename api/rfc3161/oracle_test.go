package rfc3161

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/digitorus/timestamp"
)

// openssl runs the openssl command in dir.
func openssl(t *testing.T, dir string, args ...string) (string, error) {
	t.Helper()
	path, err := exec.LookPath("openssl")
	if err != nil {
		t.Fatal("openssl is not installed: run tools/deps.sh")
	}
	command := exec.CommandContext(t.Context(), path, args...)
	command.Dir = dir
	out, err := command.CombinedOutput()
	return string(out), err
}

func mustOpenSSL(t *testing.T, dir string, args ...string) string {
	t.Helper()
	out, err := openssl(t, dir, args...)
	if err != nil {
		t.Fatalf("openssl %v: %v\n%s", args, err, out)
	}
	return out
}

func write(t *testing.T, dir, name string, b []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, dir, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func pemOf(certificates ...*party) []byte {
	var b []byte
	for _, c := range certificates {
		b = append(b, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return b
}

// OpenSSL asks, we answer, OpenSSL verifies.
func TestOpenSSLVerifiesOurs(t *testing.T) {
	for _, kind := range []string{"P-256", "P-384", "P-521"} {
		for _, hash := range []string{"sha256", "sha384", "sha512"} {
			t.Run(kind+" "+hash, func(t *testing.T) {
				requirement(t, "A-19")
				a := newDeepAuthority(t, kind)
				dir := t.TempDir()
				write(t, dir, "data", signature)
				write(t, dir, "roots.pem", pemOf(a.root))
				mustOpenSSL(t, dir, "ts", "-query", "-data", "data", "-"+hash, "-cert", "-out", "request")
				r, err := ParseRequest(read(t, dir, "request"))
				if err != nil {
					t.Fatal(err)
				}
				if again, err := r.Encode(); err != nil || !bytes.Equal(again, read(t, dir, "request")) {
					t.Errorf("the request is written otherwise by us: %v", err)
				}
				issue := func(at time.Time) {
					token, err := a.issuer().Issue(t.Context(), r, at)
					if err != nil {
						t.Fatal(err)
					}
					write(t, dir, "response", EncodeResponse(token))
					write(t, dir, "token", token)
				}
				// OpenSSL judges the chain at the time of its own clock unless told another.
				at := []string{"-CAfile", "roots.pem", "-attime", strconv.FormatInt(genTime.Unix(), 10)}
				issue(genTime)
				mustOpenSSL(t, dir, append([]string{"ts", "-verify", "-queryfile", "request", "-in", "response"}, at...)...)
				mustOpenSSL(t, dir, append([]string{"ts", "-verify", "-data", "data", "-in", "response"}, at...)...)
				mustOpenSSL(t, dir, append([]string{"ts", "-verify", "-data", "data", "-token_in", "-in", "token"}, at...)...)
				write(t, dir, "data", []byte("another"))
				if out, err := openssl(t, dir, append([]string{"ts", "-verify", "-data", "data", "-in", "response"}, at...)...); err == nil {
					t.Errorf("verifies for other data: %s", out)
				}
			})
		}
	}
	t.Run("without certificates, with a policy", func(t *testing.T) {
		a := newAuthority(t, "P-256")
		dir := t.TempDir()
		write(t, dir, "data", signature)
		write(t, dir, "roots.pem", pemOf(a.root))
		write(t, dir, "tsa.pem", pemOf(a.tsa))
		mustOpenSSL(t, dir, "ts", "-query", "-data", "data", "-sha256", "-no_nonce", "-tspolicy", testPolicy.String(), "-out", "request")
		r, err := ParseRequest(read(t, dir, "request"))
		if err != nil {
			t.Fatal(err)
		}
		if r.Nonce != nil || r.CertReq || !r.Policy.Equal(testPolicy) {
			t.Fatalf("read as %+v", r)
		}
		token, err := a.issuer().Issue(t.Context(), r, genTime)
		if err != nil {
			t.Fatal(err)
		}
		write(t, dir, "response", EncodeResponse(token))
		mustOpenSSL(t, dir, "ts", "-verify", "-queryfile", "request", "-in", "response", "-CAfile", "roots.pem", "-untrusted", "tsa.pem",
			"-attime", strconv.FormatInt(genTime.Unix(), 10))
	})
	for reason, says := range map[FailInfo]string{
		BadAlg:              "unrecognized or unsupported algorithm identifier",
		BadRequest:          "transaction not permitted or supported",
		BadDataFormat:       "the data submitted has the wrong format",
		TimeNotAvailable:    "the TSA's time source is not available",
		UnacceptedPolicy:    "the requested TSA policy is not supported by the TSA",
		UnacceptedExtension: "the requested extension is not supported by the TSA",
		AddInfoNotAvailable: "the additional information requested could not be understood or is not available",
		SystemFailure:       "the request cannot be handled due to system failure",
	} {
		t.Run("refusal "+reason.String(), func(t *testing.T) {
			requirement(t, "A-19")
			dir := t.TempDir()
			write(t, dir, "response", EncodeRefusal(reason, "in our words"))
			out := mustOpenSSL(t, dir, "ts", "-reply", "-in", "response", "-text")
			for _, want := range []string{"Status: Rejected.", "Status description: in our words", "Failure info: " + says} {
				if !bytes.Contains([]byte(out), []byte(want)) {
					t.Errorf("%q is not in\n%s", want, out)
				}
			}
		})
	}
}

// `openssl cms` reads RSA PSS, too, and checks the signature, ESSCertIDv2 and the chain. (OpenSSL 3.0 reads no Ed25519 in CMS.)
func TestOpenSSLReadsOurCMS(t *testing.T) {
	for _, kind := range []string{"P-256", "P-384", "P-521", "RSA"} {
		t.Run(kind, func(t *testing.T) {
			a := newDeepAuthority(t, kind)
			dir := t.TempDir()
			token := a.token(t)
			write(t, dir, "roots.pem", pemOf(a.root))
			verify := func(token []byte) (string, error) {
				write(t, dir, "token", token)
				return openssl(t, dir, "cms", "-verify", "-inform", "DER", "-in", "token", "-CAfile", "roots.pem", "-out", "content",
					"-cades", "-purpose", "timestampsign", "-attime", strconv.FormatInt(genTime.Unix(), 10))
			}
			if out, err := verify(token); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			parsed, err := Parse(token)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(read(t, dir, "content"), parsed.signed.content) {
				t.Error("OpenSSL reads another content")
			}
			token[len(token)-1] ^= 1
			if out, err := verify(token); err == nil {
				t.Errorf("verifies with its signature changed: %s", out)
			}
		})
	}
}

const opensslConfig = `
[tsa]
default_tsa = ours
[ours]
serial = serial
crypto_device = builtin
signer_digest = %s
default_policy = 1.2.3.4.1
digests = sha256, sha384, sha512
accuracy = secs:0, millisecs:500, microsecs:100
clock_precision_digits = %d
ordering = %s
tsa_name = %s
ess_cert_id_chain = %s
ess_cert_id_alg = %s
`

// We ask, OpenSSL answers, we verify. Its clock is the real one, and so are these certificates' times.
func TestWeVerifyOpenSSLs(t *testing.T) {
	real := func(c *x509.Certificate) {
		c.NotBefore, c.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	}
	newReal := func(t *testing.T, kind string) *authority {
		root := certificateTemplate("Root")
		root.IsCA, root.KeyUsage, root.ExtraExtensions = true, x509.KeyUsageCertSign, nil
		real(root)
		a := &authority{root: certify(t, root, newKey(t, "P-384"), nil)}
		intermediate := certificateTemplate("Intermediate")
		intermediate.IsCA, intermediate.KeyUsage, intermediate.ExtraExtensions = true, x509.KeyUsageCertSign, nil
		real(intermediate)
		a.intermediate = certify(t, intermediate, newKey(t, "P-384"), a.root)
		a.tsa = a.leaf(t, kind, real)
		return a
	}
	for _, test := range []struct {
		kind, digest        string
		digits              int
		ordering, name, all string
		ess                 string
		accuracy            time.Duration
		want                error
	}{
		{"P-256", "sha256", 3, "no", "no", "no", "sha256", 500_100 * time.Microsecond, nil},
		{"P-384", "sha384", 6, "yes", "yes", "yes", "sha256", 500_100 * time.Microsecond, nil},
		{"RSA", "sha512", 0, "no", "yes", "no", "sha512", time.Second, nil},
		{"RSA", "sha256", 3, "no", "no", "no", "sha1", 0, ErrMalformed}, // ESSCertID alone
	} {
		t.Run(fmt.Sprintf("%s %s %d digits, ESS %s", test.kind, test.digest, test.digits, test.ess), func(t *testing.T) {
			a := newReal(t, test.kind)
			dir := t.TempDir()
			key, err := x509.MarshalPKCS8PrivateKey(a.tsa.key)
			if err != nil {
				t.Fatal(err)
			}
			write(t, dir, "key.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}))
			write(t, dir, "tsa.pem", pemOf(a.tsa))
			write(t, dir, "chain.pem", pemOf(a.intermediate))
			write(t, dir, "config", fmt.Appendf(nil, opensslConfig, test.digest, test.digits, test.ordering, test.name, test.all, test.ess))
			r := request()
			der, err := r.Encode()
			if err != nil {
				t.Fatal(err)
			}
			write(t, dir, "request", der)
			mustOpenSSL(t, dir, "ts", "-reply", "-config", "config", "-queryfile", "request", "-inkey", "key.pem", "-signer", "tsa.pem",
				"-chain", "chain.pem", "-out", "response")
			token, err := ParseResponse(read(t, dir, "response"))
			if !errors.Is(err, test.want) {
				t.Fatalf("error %v, expected %v", err, test.want)
			}
			if test.want != nil {
				return
			}
			if err := token.Answers(r); err != nil {
				t.Error(err)
			}
			if _, err := token.Verify(a.options()); err != nil {
				t.Error(err)
			}
			if token.Accuracy != test.accuracy && !(token.Accuracy == time.Second && token.GenTime.Nanosecond() == 0) {
				t.Errorf("accuracy %v, expected %v", token.Accuracy, test.accuracy)
			}
			if off := time.Since(token.GenTime); off < -time.Second || off > time.Minute {
				t.Errorf("genTime %v", token.GenTime)
			}
			options := a.options()
			options.Strict = true
			if _, err := token.Verify(options); !errors.Is(err, ErrProfile) {
				t.Errorf("strictly: error %v, expected %v", err, ErrProfile)
			}
		})
	}
}

// digitorus/timestamp is what most Go programs read tokens with.
func TestDigitorus(t *testing.T) {
	a := newAuthority(t, "P-256")
	t.Run("reads ours", func(t *testing.T) {
		request, err := timestamp.CreateRequest(bytes.NewReader(signature), &timestamp.RequestOptions{Hash: crypto.SHA256, Certificates: true})
		if err != nil {
			t.Fatal(err)
		}
		r, err := ParseRequest(request)
		if err != nil {
			t.Fatal(err)
		}
		der, err := a.issuer().Issue(t.Context(), r, genTime)
		if err != nil {
			t.Fatal(err)
		}
		read, err := timestamp.ParseResponse(EncodeResponse(der))
		if err != nil {
			t.Fatal(err)
		}
		ours, err := Parse(der)
		if err != nil {
			t.Fatal(err)
		}
		if !read.Time.Equal(genTime) || !bytes.Equal(read.HashedMessage, ours.Imprint) || read.SerialNumber.Cmp(ours.Serial) != 0 ||
			read.Accuracy != time.Second || read.Ordering || len(read.Certificates) != 1 || !read.Policy.Equal(testPolicy) {
			t.Errorf("read as %+v", read)
		}
	})
	t.Run("reads our refusal", func(t *testing.T) {
		if _, err := timestamp.ParseResponse(EncodeRefusal(BadAlg, "no")); err == nil {
			t.Error("read as granted")
		}
	})
	t.Run("is read", func(t *testing.T) {
		theirs := timestamp.Timestamp{
			HashAlgorithm:     crypto.SHA256,
			HashedMessage:     imprintOf(signature),
			Time:              genTime,
			Policy:            testPolicy,
			Accuracy:          time.Second,
			AddTSACertificate: true,
		}
		response, err := theirs.CreateResponseWithOpts(a.tsa.Certificate, a.tsa.key, crypto.SHA256)
		if err != nil {
			t.Fatal(err)
		}
		token, err := ParseResponse(response)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := token.Verify(a.options()); err != nil {
			t.Error(err)
		}
	})
}
