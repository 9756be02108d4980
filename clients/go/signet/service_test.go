//go:build cgo

package signet_test

import (
	"crypto"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"
	"uuid"

	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/api/rfc3161"
	signetv1 "github.com/signetd/signet/api/signet/v1"
	"github.com/signetd/signet/clients/go/signet"
	"github.com/signetd/signet/server/servertest"
)

// TestService seals and stamps as a service, authenticated by mutual TLS alone.
func TestService(t *testing.T) {
	r := start(t)
	file := r.server.Created.SealingClient
	certificate, err := tls.LoadX509KeyPair(file, strings.TrimSuffix(file, ".pem")+"-key.pem")
	check(t, err)
	service, err := signet.Dial(r.server.Address, signet.Options{CA: r.ca, Certificate: &certificate, Trust: &r.trust, Timeout: time.Minute})
	check(t, err)
	t.Cleanup(func() { _ = service.Close() })

	act := signet.Act{
		Record: r.record.Name(), Meaning: "evidence-seal", Reason: "built", RequestID: uuid.New().String(),
		Inputs: []*signetv1.Input{{Name: "run", Value: "4711"}, {Name: "flags", Value: "-trimpath"}},
	}
	sealed, err := service.Seal(t.Context(), act)
	check(t, err)
	if said := sealed.Signature.Statement.Predicate; !sealed.Trusted || said.Decision != manifest.Seal || len(said.Inputs) != 2 {
		t.Errorf("sealed %+v, trusted %v", said, sealed.Trusted)
	}
	again, err := service.Seal(t.Context(), act)
	check(t, err)
	if again.Index != sealed.Index {
		t.Errorf("the same request made entries %d and %d", sealed.Index, again.Index)
	}
	act.Meaning, act.RequestID = manifest.ClosingMeaning, ""
	if _, err := service.Seal(t.Context(), act); !errors.Is(err, signet.MeaningReserved) {
		t.Errorf("a closing seal by a service gives %v", err)
	}

	// another seal than the one that was asked for
	var genuine *signetv1.Signature
	for s, err := range service.Signatures(t.Context(), r.record.Name()) {
		check(t, err)
		genuine = s
	}
	act.Meaning = "evidence-seal"
	if _, err := service.CheckSeal(genuine, act); err != nil {
		t.Fatalf("the genuine one: %v", err)
	}
	for name, change := range map[string]func(*signet.Act){
		"record": func(a *signet.Act) { a.Record = "records/" + uuid.NewV7().String() }, "meaning": func(a *signet.Act) { a.Meaning = "other" },
		"reason": func(a *signet.Act) { a.Reason = "" }, "inputs": func(a *signet.Act) { a.Inputs = a.Inputs[:1] },
		"value": func(a *signet.Act) { a.Inputs = []*signetv1.Input{{Name: "run", Value: "4712"}, a.Inputs[1]} },
	} {
		t.Run("another "+name, func(t *testing.T) {
			other := act
			change(&other)
			_, err := service.CheckSeal(genuine, other)
			contradicts(t, err)
		})
	}

	t.Run("a service signs nothing as a person", func(t *testing.T) {
		want := intent
		want.Record = r.record.Name()
		if _, err := service.Prepare(t.Context(), want); !errors.Is(err, signet.Denied) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a session seals nothing", func(t *testing.T) {
		if _, err := r.ada.Seal(t.Context(), act); !errors.Is(err, signet.Denied) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a time-stamp", func(t *testing.T) {
		imprint := sha256.Sum256([]byte("anything"))
		request := rfc3161.Request{Hash: crypto.SHA256, Imprint: imprint[:], Nonce: big.NewInt(4711), CertReq: true}
		token, err := service.Timestamp(t.Context(), request)
		check(t, err)
		roots, err := signet.RootsAt(r.trust.TimestampRoots, manifest.NewTime(token.GenTime))
		check(t, err)
		if _, err := token.Verify(rfc3161.VerifyOptions{Imprint: imprint[:], Roots: roots, Strict: true}); err != nil {
			t.Error(err)
		}
	})
}

// TestWithdraw takes a decision back.
func TestWithdraw(t *testing.T) {
	r := start(t)
	password := signet.Password{UserName: "ada", Password: servertest.Password}
	if _, err := r.ada.Withdraw(t.Context(), r.record.Name(), "Nothing yet."); !errors.Is(err, signet.NothingToWithdraw) {
		t.Errorf("got %v", err)
	}
	want := intent
	want.Record = r.record.Name()
	prepared, err := r.ada.Prepare(t.Context(), want)
	check(t, err)
	_, err = r.ada.Sign(t.Context(), prepared, password)
	check(t, err)
	prepared, err = r.ada.Withdraw(t.Context(), r.record.Name(), "A defect was found.")
	check(t, err)
	signed, err := r.ada.Sign(t.Context(), prepared, password)
	check(t, err)
	if signed.RecordState != signetv1.RecordState_RECORD_STATE_WITHDRAWN || signed.Signature.Statement.Predicate.Decision != manifest.Withdraw {
		t.Errorf("%v after %s", signed.RecordState, signed.Signature.Statement.Predicate.Decision)
	}
}
