package server_test

import (
	"errors"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/signetd/signet/api/chain"
	signetv1 "github.com/signetd/signet/api/signet/v1"
	"github.com/signetd/signet/api/verify"
	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/server"
	"github.com/signetd/signet/server/internal/ledger"
	"github.com/signetd/signet/server/servertest"
)

// gone is a token that does not answer for keys whose id begins so.
func gone(prefix string) servertest.Fault {
	return func(id keystore.ID, signature []byte) ([]byte, error) {
		if strings.HasPrefix(string(id), prefix) {
			return nil, keystore.ErrUnavailable
		}
		return signature, nil
	}
}

// wrong is a token that answers with another signature.
func wrong(prefix string) servertest.Fault {
	return func(id keystore.ID, signature []byte) ([]byte, error) {
		if strings.HasPrefix(string(id), prefix) {
			signature = append([]byte{}, signature...)
			signature[len(signature)-1] ^= 1
		}
		return signature, nil
	}
}

func TestNoSignatureLeavesAFaultyHSM(t *testing.T) {
	s := start(t)
	for name, fault := range map[string]servertest.Fault{
		"the signer's key is gone": gone("signer-"), "the signer's signature is wrong": wrong("signer-"),
		"the time-stamping key is gone": gone("tsa-"), "the time-stamp's signature is wrong": wrong("tsa-"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Attr("requirement", "B-26")
			p := s.prepare(s.ada)
			before := s.size()
			s.SetFault(fault)
			_, err := s.signing.Sign(s.ada, signRequest(p, "ada"))
			s.SetFault(nil)
			wantError(t, err, codes.Unavailable, "HSM_UNAVAILABLE")
			if n := len(s.find(before, chain.SignatureCreated)); n != 0 {
				t.Fatalf("%d signatures were committed", n)
			}
			if len(s.find(before, chain.SignatureAttempted)) != 1 || len(s.find(before, chain.SignatureAbandoned)) != 1 {
				t.Error("attempt and abandonment are not both in the ledger")
			}
			_, err = s.signing.Sign(s.ada, signRequest(p, "ada"))
			wantError(t, err, codes.FailedPrecondition, "PREPARATION_USED")
		})
	}
	s.sign(s.ada, "ada", s.prepare(s.ada))
	s.wantVerdict(s.manifest(), verify.OK)
}

func TestClosingIsMadeUp(t *testing.T) {
	for name, heal := range map[string]func(*scene, *signetv1.Preparation){
		"by the next call": func(s *scene, p *signetv1.Preparation) { s.sign(s.ada, "ada", p) },
		"at the next start": func(s *scene, _ *signetv1.Preparation) {
			s.Restart()
			s.connect()
			s.rita = s.Login("rita")
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t)
			p := s.prepare(s.ada)
			s.SetFault(gone("closing-"))
			_, err := s.signing.Sign(s.ada, signRequest(p, "ada"))
			s.SetFault(nil)
			wantError(t, err, codes.Unavailable, "HSM_UNAVAILABLE")
			heal(s, p)
			report := s.wantVerdict(s.manifest(), verify.OK)
			if len(report.Signatures) != 2 {
				t.Fatalf("%d signatures, want one and its closing", len(report.Signatures))
			}
		})
	}
}

func TestAcknowledgedOnlyUnderACheckpoint(t *testing.T) {
	s := start(t)
	p := s.prepare(s.ada)
	s.SetFault(gone("ledger-"))
	_, err := s.signing.Sign(s.ada, signRequest(p, "ada"))
	s.SetFault(nil)
	if err == nil {
		t.Fatal("a signature was released without a checkpoint")
	}
	s.sign(s.ada, "ada", s.prepareAgain(p))
	s.wantVerdict(s.manifest(), verify.OK)
}

// prepareAgain returns the preparation itself if it is signed or still waits, or else a new one.
func (s *scene) prepareAgain(p *signetv1.Preparation) *signetv1.Preparation {
	s.t.Helper()
	if _, err := s.signing.Sign(s.ada, signRequest(p, "ada")); err == nil {
		return p
	}
	return s.prepare(s.ada)
}

func TestNoStartWithAFaultyHSM(t *testing.T) {
	s := start(t)
	s.Stop()
	for name, tc := range map[string]struct {
		fault servertest.Fault
		want  error
	}{"gone": {gone("canary"), keystore.ErrUnavailable}, "wrong": {wrong("canary"), keystore.ErrWrongSignature}} {
		t.Run(name, func(t *testing.T) {
			s.SetFault(tc.fault)
			_, err := server.Open(t.Context(), server.Options{Config: s.Config, Keys: s.Keys})
			s.SetFault(nil)
			if !errors.Is(err, tc.want) {
				t.Fatalf("got %v, want %v", err, tc.want)
			}
		})
	}
	s.Restart()
}

func TestSecondServerIsRefused(t *testing.T) {
	s := start(t)
	_, err := server.Open(t.Context(), server.Options{Config: s.Config, Keys: s.Keys})
	if !errors.Is(err, ledger.ErrLocked) {
		t.Fatalf("a second server on the same folder: %v", err)
	}
	if _, err := server.Init(t.Context(), server.Options{Config: s.Config, Keys: s.Keys}, server.Administrator{UserName: "x"}, func(string) {}); !errors.Is(err, server.ErrInitialised) {
		t.Fatalf("init over a service: %v", err)
	}
}
