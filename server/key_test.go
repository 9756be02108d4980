package server_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json/v2"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/api/rfc3161"
	signetv1 "github.com/signetd/signet/api/signet/v1"
	"github.com/signetd/signet/api/verify"
	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/server/servertest"
)

// keyScene is a scene with two administrators, who look after keys.
type keyScene struct {
	*scene
	keys       signetv1.KeyServiceClient
	admin, eve context.Context
}

func startKeys(t *testing.T) *keyScene {
	t.Helper()
	s := &keyScene{scene: start(t)}
	s.Enroll("eve", "Eve Security", signetv1.Role_ROLE_ADMINISTRATOR)
	s.reconnect()
	return s
}

// reconnect dials again and opens sessions, which do not outlive a server.
func (s *keyScene) reconnect() {
	s.t.Helper()
	s.connect()
	s.keys = signetv1.NewKeyServiceClient(s.Dial())
	s.admin, s.eve = s.Login(servertest.Administrator), s.Login("eve")
	s.ada, s.bob, s.rita = s.Login("ada"), s.Login("bob"), s.Login("rita")
}

func (s *keyScene) restart() {
	s.t.Helper()
	s.Restart()
	s.reconnect()
}

func proofOf(user string) *signetv1.PasswordCredentials {
	return &signetv1.PasswordCredentials{UserName: user, Password: servertest.Password}
}

func (s *keyScene) get(name string) *signetv1.Key {
	s.t.Helper()
	r, err := s.keys.GetKey(s.admin, &signetv1.GetKeyRequest{Name: name})
	if err != nil {
		s.t.Fatal(err)
	}
	return r.GetKey()
}

// active returns the key of a role that may sign.
func (s *keyScene) active(role signetv1.KeyRole, signer string) *signetv1.Key {
	s.t.Helper()
	var found *signetv1.Key
	for token := ""; ; {
		r, err := s.keys.ListKeys(s.admin, &signetv1.ListKeysRequest{PageSize: 3, PageToken: token, Signer: signer})
		if err != nil {
			s.t.Fatal(err)
		}
		for _, k := range r.GetKeys() {
			if k.GetRole() == role && k.GetState() == signetv1.KeyState_KEY_STATE_ACTIVE {
				if found != nil {
					s.t.Fatalf("two active keys of the role %s: %s and %s", role, found.GetLabel(), k.GetLabel())
				}
				found = k
			}
		}
		if token = r.GetNextPageToken(); token == "" {
			break
		}
	}
	if found == nil {
		s.t.Fatalf("no active key of the role %s", role)
	}
	return found
}

func (s *keyScene) adaKey() *signetv1.Key { return s.active(signetv1.KeyRole_KEY_ROLE_SIGNER, s.adaID) }

func (s *keyScene) rotate(k *signetv1.Key) *signetv1.Key {
	s.t.Helper()
	r, err := s.keys.RotateKey(s.admin, &signetv1.RotateKeyRequest{Name: k.GetName(), Reason: "two years old", Password: proofOf(servertest.Administrator)})
	if err != nil {
		s.t.Fatalf("rotate %s: %v", k.GetLabel(), err)
	}
	return r.GetKey()
}

func (s *keyScene) disable(name string) error {
	_, err := s.keys.DisableKey(s.admin, &signetv1.DisableKeyRequest{Name: name, Reason: "laptop lost", Password: proofOf(servertest.Administrator)})
	return err
}

func (s *keyScene) enable(name string) error {
	_, err := s.keys.EnableKey(s.admin, &signetv1.EnableKeyRequest{Name: name, Reason: "laptop found", Password: proofOf(servertest.Administrator)})
	return err
}

func (s *keyScene) request(name string) (*signetv1.Key, error) {
	r, err := s.keys.RequestKeyDestruction(s.admin, &signetv1.RequestKeyDestructionRequest{
		Name: name, Reason: "out of use", Password: proofOf(servertest.Administrator),
	})
	return r.GetKey(), err
}

func (s *keyScene) confirm(name, destruction string) (*signetv1.Key, error) {
	r, err := s.keys.ConfirmKeyDestruction(s.eve, &signetv1.ConfirmKeyDestructionRequest{
		Name: name, Destruction: destruction, Reason: "I have checked it", Password: proofOf("eve"),
	})
	return r.GetKey(), err
}

// approved records a new version, has ada approve it, and returns its manifest, which verifies.
func (s *keyScene) approved(version string) []byte {
	s.t.Helper()
	h := header("ada")
	h.Version = version
	s.record = s.create(h)
	s.sign(s.ada, "ada", s.prepare(s.ada))
	file := s.manifest()
	s.wantVerdict(file, verify.OK)
	return file
}

// signedBy returns the key ids of the signatures of a manifest, and those of their first time-stamps.
func signedBy(t *testing.T, file []byte) (keys, stamps []string) {
	t.Helper()
	m, err := manifest.Parse(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, sig := range m.Signatures {
		keys = append(keys, "keys/"+sig.Signature.KeyID)
		token, err := rfc3161.Parse(sig.Timestamps[0])
		if err != nil {
			t.Fatal(err)
		}
		stamps = append(stamps, "keys/"+keystore.KeyID(token.Certificates[0].PublicKey))
	}
	return keys, stamps
}

// inHSM reports whether the HSM has the private key.
func (s *keyScene) inHSM(k *signetv1.Key) bool {
	s.t.Helper()
	_, err := s.Token.Find(s.t.Context(), keystore.ID(k.GetLabel()))
	if err != nil && !errors.Is(err, keystore.ErrNotFound) {
		s.t.Fatal(err)
	}
	return err == nil
}

// TestRotation rotates the keys that take part in an approval, one after the other. Whatever was signed before verifies after it, with the
// trust file that was pinned before; whatever is signed after it is signed by the new key.
func TestRotation(t *testing.T) {
	s := startKeys(t)
	before := s.approved("v1.0.0")
	type rotation struct {
		name string
		key  func() *signetv1.Key
		// used reports whether the key with this name took part.
		used func(file []byte, name string) bool
	}
	signed := func(file []byte, name string) bool {
		keys, _ := signedBy(t, file)
		return strings.Contains(strings.Join(keys, " "), name)
	}
	files := map[string][]byte{"before": before}
	for i, r := range []rotation{
		{"a signer's", s.adaKey, signed},
		{"the closing key", func() *signetv1.Key { return s.active(signetv1.KeyRole_KEY_ROLE_CLOSING, "") }, signed},
		{"the time-stamping key", func() *signetv1.Key { return s.active(signetv1.KeyRole_KEY_ROLE_TIMESTAMP, "") }, func(file []byte, name string) bool {
			_, stamps := signedBy(t, file)
			return strings.Contains(strings.Join(stamps, " "), name)
		}},
	} {
		t.Run(r.name, func(t *testing.T) {
			t.Attr("requirement", "B-31")
			old := r.key()
			from := s.size()
			next := s.rotate(old)
			was := s.get(old.GetName())
			if next.GetState() != signetv1.KeyState_KEY_STATE_ACTIVE || next.GetPredecessor() != old.GetName() || next.GetLabel() == old.GetLabel() ||
				next.GetRole() != old.GetRole() || next.GetSigner() != old.GetSigner() || len(next.GetAttributes()) == 0 {
				t.Errorf("the new key: %v", next)
			}
			if was.GetState() != signetv1.KeyState_KEY_STATE_RETIRED || was.GetSuccessor() != next.GetName() || !bytes.Equal(was.GetPublicKey(), old.GetPublicKey()) ||
				!bytes.Equal(was.GetCertificate(), old.GetCertificate()) || len(old.GetCertificate()) == 0 {
				t.Errorf("the old key: %v", was)
			}
			if r.key().GetName() != next.GetName() {
				t.Error("the new key is not the active one")
			}
			rotated := s.find(from, chain.KeyRotated)
			if len(rotated) != 1 || rotated[0].Actor.Kind != chain.Person || len(s.find(from, chain.KeyCreated)) != 1 {
				t.Fatalf("entries: %v", rotated)
			}
			var body map[string]any
			if err := json.Unmarshal(rotated[0].Body, &body); err != nil || body["reason"] != "two years old" || body["from"] != "active" || body["to"] != "retired" ||
				"keys/"+body["keyId"].(string) != old.GetName() || "keys/"+body["successor"].(string) != next.GetName() {
				t.Errorf("key.rotated: %v, %v", body, err)
			}
			file := s.approved("v1.0." + string(rune('1'+i)))
			if !r.used(file, next.GetName()) || r.used(file, old.GetName()) || !r.used(before, old.GetName()) {
				t.Error("the signature was not made with the new key")
			}
			files[r.name] = file
			for when, f := range files {
				if s.verify(f).Code != verify.OK {
					t.Errorf("what was signed %s no longer verifies: %v", when, s.verify(f).Faults)
				}
			}
		})
	}
	t.Run("and after a restart", func(t *testing.T) {
		t.Attr("requirement", "B-31")
		s.restart()
		s.approved("v1.1.0")
		for when, f := range files {
			s.wantVerdict(f, verify.OK)
			_ = when
		}
	})
	t.Run("a manifest that was signed before is given out as before", func(t *testing.T) {
		t.Attr("requirement", "B-31")
		list, err := s.records.ListRecords(s.rita, &signetv1.ListRecordsRequest{})
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range list.GetRecords() {
			if r.GetVersion() == "v1.0.0" {
				s.record = r
				s.wantVerdict(s.manifest(), verify.OK)
				return
			}
		}
		t.Fatal("the first record is gone")
	})
}

// TestRotationOfASigner: what a rotation changes of a person, and what not.
func TestRotationOfASigner(t *testing.T) {
	s := startKeys(t)
	p := s.prepare(s.ada)
	old := s.adaKey()
	s.rotate(old)
	t.Run("a statement that names the old key is not signed", func(t *testing.T) {
		_, err := s.signing.Sign(s.ada, signRequest(p, "ada"))
		wantError(t, err, codes.FailedPrecondition, "RECORD_CHANGED")
	})
	t.Run("session and password hold", func(t *testing.T) { s.sign(s.ada, "ada", s.prepare(s.ada)) })
	t.Run("the old key signs nothing", func(t *testing.T) {
		t.Attr("requirement", "B-36")
		for what, err := range map[string]error{"enable": s.enable(old.GetName()), "disable": s.disable(old.GetName())} {
			t.Run(what, func(t *testing.T) { wantError(t, err, codes.FailedPrecondition, "KEY_STATE") })
		}
		_, err := s.keys.RotateKey(s.admin, &signetv1.RotateKeyRequest{Name: old.GetName(), Reason: "again", Password: proofOf(servertest.Administrator)})
		wantError(t, err, codes.FailedPrecondition, "KEY_STATE")
	})
	t.Run("a suspended signer gets no new key", func(t *testing.T) {
		if _, err := s.signers.SuspendSigner(s.admin, &signetv1.SuspendSignerRequest{Name: s.bobID, Reason: "on leave"}); err != nil {
			t.Fatal(err)
		}
		k := s.active(signetv1.KeyRole_KEY_ROLE_SIGNER, s.bobID)
		_, err := s.keys.RotateKey(s.admin, &signetv1.RotateKeyRequest{Name: k.GetName(), Reason: "old", Password: proofOf(servertest.Administrator)})
		wantError(t, err, codes.FailedPrecondition, "SIGNER_STATE")
	})
	t.Run("a retried call makes one key", func(t *testing.T) {
		in := &signetv1.RotateKeyRequest{
			Name: s.adaKey().GetName(), Reason: "old", Password: proofOf(servertest.Administrator), RequestId: "0193c1f0-0000-4000-8000-000000000007",
		}
		a, err := s.keys.RotateKey(s.admin, in)
		if err != nil {
			t.Fatal(err)
		}
		from := s.size()
		b, err := s.keys.RotateKey(s.admin, in)
		if err != nil || a.GetKey().GetName() != b.GetKey().GetName() || len(s.find(from, chain.KeyCreated)) != 0 {
			t.Fatalf("%s, then %s, %v", a.GetKey().GetName(), b.GetKey().GetName(), err)
		}
		again := proto.CloneOf(in)
		again.Password.Password = "something else altogether"
		_, err = s.keys.RotateKey(s.admin, again)
		wantError(t, err, codes.Unauthenticated, "BAD_CREDENTIALS")
	})
	t.Run("nobody rotates or enables their own key", func(t *testing.T) {
		carol := s.Enroll("carol", "Carol Both", signetv1.Role_ROLE_ADMINISTRATOR, signetv1.Role_ROLE_SIGNER)
		session := s.Login("carol")
		k := s.active(signetv1.KeyRole_KEY_ROLE_SIGNER, carol.GetName())
		_, err := s.keys.RotateKey(session, &signetv1.RotateKeyRequest{Name: k.GetName(), Reason: "old", Password: proofOf("carol")})
		wantError(t, err, codes.PermissionDenied, "DENIED")
		if _, err := s.keys.DisableKey(session, &signetv1.DisableKeyRequest{Name: k.GetName(), Reason: "lost", Password: proofOf("carol")}); err != nil {
			t.Fatal(err)
		}
		_, err = s.keys.EnableKey(session, &signetv1.EnableKeyRequest{Name: k.GetName(), Reason: "found", Password: proofOf("carol")})
		wantError(t, err, codes.PermissionDenied, "DENIED")
	})
	t.Run("the HSM is gone", func(t *testing.T) {
		k := s.adaKey()
		from := s.size()
		s.SetFault(gone("ca-"))
		_, err := s.keys.RotateKey(s.admin, &signetv1.RotateKeyRequest{Name: k.GetName(), Reason: "old", Password: proofOf(servertest.Administrator)})
		s.SetFault(nil)
		wantError(t, err, codes.Unavailable, "HSM_UNAVAILABLE")
		if s.adaKey().GetName() != k.GetName() || len(s.find(from, chain.KeyCreated)) != 0 {
			t.Error("something was changed")
		}
	})
}

// TestRotationOfAService rotates the sealing key of the first service.
func TestRotationOfAService(t *testing.T) {
	t.Attr("requirement", "B-31")
	s := startKeys(t)
	sealing := signetv1.NewSigningServiceClient(s.DialSealing())
	seal := func() []byte {
		t.Helper()
		if _, err := sealing.Seal(t.Context(), &signetv1.SealRequest{Record: s.record.GetName(), Meaning: "evidence-seal"}); err != nil {
			t.Fatal(err)
		}
		return s.manifest()
	}
	seal()
	old := s.active(signetv1.KeyRole_KEY_ROLE_SEALING, "")
	next := s.rotate(old)
	seal()
	s.sign(s.ada, "ada", s.prepare(s.ada))
	file := s.manifest()
	report := s.wantVerdict(file, verify.OK)
	keys, _ := signedBy(t, file)
	if len(report.Signatures) != 4 || keys[0] != old.GetName() || keys[1] != next.GetName() {
		t.Fatalf("signatures by %v, want %s, then %s first", keys, old.GetName(), next.GetName())
	}
	list, err := s.signers.ListSigners(s.admin, &signetv1.ListSignersRequest{})
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, x := range list.GetSigners() {
		if seen[x.GetName()] {
			t.Errorf("%s is listed twice", x.GetName())
		}
		seen[x.GetName()] = true
		if x.GetName() == old.GetSigner() && "keys/"+x.GetKeyId() != next.GetName() {
			t.Errorf("the service still has the key %s", x.GetKeyId())
		}
	}
}

// TestRotationOfTheCA: a new root certifies from then on. What the old one has certified verifies with the old trust file and the new one;
// what the new one has certified takes the new one.
func TestRotationOfTheCA(t *testing.T) {
	t.Attr("requirement", "B-31")
	s := startKeys(t)
	before, pinned := s.approved("v1.0.0"), s.trust
	old := s.active(signetv1.KeyRole_KEY_ROLE_CA, "")
	next := s.rotate(old)
	if len(next.GetCertificate()) == 0 || bytes.Equal(next.GetCertificate(), old.GetCertificate()) {
		t.Fatal("no new root")
	}
	s.approved("v1.0.1") // the signers' certificates are the old CA's and hold
	s.rotate(s.adaKey())
	s.rotate(s.active(signetv1.KeyRole_KEY_ROLE_TIMESTAMP, ""))
	anew, err := os.ReadFile(s.Created.TrustFile)
	if err != nil {
		t.Fatal(err)
	}
	trust, err := manifest.ParseTrust(anew)
	if err != nil || len(trust.SignerRoots) != 2 || len(trust.TimestampRoots) != 2 {
		t.Fatalf("trust file %s, %v", anew, err)
	}
	s.trust = anew
	after := s.approved("v1.0.2")
	for range 2 {
		s.trust = pinned
		s.wantVerdict(before, verify.OK)
		if r := s.verify(after); r.Code == verify.OK {
			t.Error("what the new CA has certified verifies although nobody pinned it")
		}
		s.trust = anew
		s.wantVerdict(before, verify.OK)
		s.wantVerdict(after, verify.OK)
		// A crash between ledger and trust file: the start writes it.
		if err := os.WriteFile(s.Created.TrustFile, pinned, 0o644); err != nil {
			t.Fatal(err)
		}
		s.restart()
		if b, err := os.ReadFile(s.Created.TrustFile); err != nil || !bytes.Equal(b, anew) {
			t.Fatalf("the trust file was not made up: %s, %v", b, err)
		}
		s.approved("v1.1." + hex.EncodeToString([]byte{byte(s.size() % 10)})[1:])
	}
	s.Enroll("dora", "Dora Signer", signetv1.Role_ROLE_SIGNER)
}

// TestWhatCannotBeRotated says why.
func TestWhatCannotBeRotated(t *testing.T) {
	s := startKeys(t)
	for name, role := range map[string]signetv1.KeyRole{"the ledger's": signetv1.KeyRole_KEY_ROLE_LEDGER, "the canary": signetv1.KeyRole_KEY_ROLE_CANARY} {
		t.Run(name, func(t *testing.T) {
			t.Attr("requirement", "B-31")
			_, err := s.keys.RotateKey(s.admin, &signetv1.RotateKeyRequest{Name: s.active(role, "").GetName(), Reason: "old", Password: proofOf(servertest.Administrator)})
			wantError(t, err, codes.FailedPrecondition, "KEY_NOT_ROTATABLE")
		})
	}
	_, err := s.keys.RotateKey(s.admin, &signetv1.RotateKeyRequest{Name: "keys/" + strings.Repeat("0", 64), Reason: "old", Password: proofOf(servertest.Administrator)})
	wantError(t, err, codes.NotFound, "KEY_NOT_FOUND")
}

// TestEveryKeyLeadsToItsEnrolment: the key id of a manifest is that of a key whose certificate and enrolment the ledger has, with the attributes
// that the HSM told.
func TestEveryKeyLeadsToItsEnrolment(t *testing.T) {
	t.Attr("requirement", "B-36")
	s := startKeys(t)
	file := s.approved("v1.0.0")
	m, err := manifest.Parse(file)
	if err != nil {
		t.Fatal(err)
	}
	sig := m.Signatures[0]
	k := s.get("keys/" + sig.Signature.KeyID)
	sum := sha256.Sum256(k.GetPublicKey())
	if k.GetSigner() != s.adaID || !bytes.Equal(k.GetCertificate(), sig.Certificates[0]) || hex.EncodeToString(sum[:]) != sig.Signature.KeyID {
		t.Errorf("key %v", k)
	}
	if err := keystore.CheckPolicy(k.GetAttributes()); err != nil {
		t.Error(err)
	}
	certificate, err := x509.ParseCertificate(k.GetCertificate())
	if err != nil || !certificate.NotAfter.Equal(k.GetCertificateExpireTime().AsTime()) {
		t.Errorf("it holds until %v: %v", k.GetCertificateExpireTime().AsTime(), err)
	}
	r, err := s.signers.GetSigner(s.admin, &signetv1.GetSignerRequest{Name: s.adaID})
	if err != nil || !bytes.Equal(r.GetSigner().GetEnrollment(), sig.Statement.Predicate.Signer.Enrolment[:]) || r.GetSigner().GetKeyId() != sig.Signature.KeyID {
		t.Errorf("signer %v, %v", r.GetSigner(), err)
	}
	if k.GetCreateTime().AsTime().After(time.Now()) {
		t.Error("made in the future")
	}
}
