package server_test

import (
	"encoding/json/v2"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"
	"google.golang.org/grpc/codes"

	"github.com/signetd/signet/api/chain"
	signetv1 "github.com/signetd/signet/api/signet/v1"
	"github.com/signetd/signet/api/verify"
	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/server"
)

// TestDrift: a key whose attributes are not those that the ledger recorded when it was made signs nothing.
func TestDrift(t *testing.T) {
	s := startKeys(t)
	drifting := func(prefix string) func(keystore.Key) keystore.Key {
		return func(k keystore.Key) keystore.Key {
			if strings.HasPrefix(string(k.ID), prefix) {
				k.Attributes["CKA_KEY_GEN_MECHANISM"] = "0xffff" // the policy does not mind
			}
			return k
		}
	}
	t.Run("a signer's", func(t *testing.T) {
		t.Attr("requirement", "B-31")
		p := s.prepare(s.ada)
		from := s.size()
		s.SetKeyFault(drifting(s.adaKey().GetLabel()))
		_, err := s.signing.Sign(s.ada, signRequest(p, "ada"))
		s.SetKeyFault(nil)
		wantError(t, err, codes.FailedPrecondition, "KEY_POLICY")
		if len(s.find(from, chain.SignatureCreated)) != 0 {
			t.Error("a signature was made")
		}
	})
	t.Run("another's does not mind", func(t *testing.T) {
		s.SetKeyFault(drifting(s.active(signetv1.KeyRole_KEY_ROLE_SIGNER, s.bobID).GetLabel()))
		s.approved("v1.0.0")
		s.SetKeyFault(nil)
	})
	t.Run("the ledger's own, before the server opens", func(t *testing.T) {
		t.Attr("requirement", "B-31")
		s.Stop()
		s.SetKeyFault(drifting("ledger-1"))
		if opened, err := server.Open(t.Context(), s.Options()); !errors.Is(err, keystore.ErrDrift) {
			if err == nil {
				_ = opened.Stop(t.Context())
			}
			t.Errorf("error %v, want drift", err)
		}
		s.SetKeyFault(nil)
		s.restart()
		s.approved("v1.0.1")
	})
}

// TestRecordedAttributes: what the ledger says of a key is believed only where the proved entry says it.
func TestRecordedAttributes(t *testing.T) {
	t.Attr("requirement", "B-31")
	s := startKeys(t)
	label := keystore.ID(s.adaKey().GetLabel())
	recorded := s.Options().Recorded
	was, ok := recorded.Attributes(label)
	if !ok || was["CKA_LOCAL"] != "true" || was["CKA_ALWAYS_SENSITIVE"] != "true" || was["CKA_NEVER_EXTRACTABLE"] != "true" {
		t.Fatalf("%v, %v", was, ok)
	}
	if a, ok := recorded.Attributes("nobody-1"); ok || a != nil {
		t.Errorf("a key that is nobody's: %v", a)
	}
	ada, bob := strings.TrimPrefix(s.adaKey().GetName(), "keys/"), strings.TrimPrefix(s.keyOf(s.bobID).GetName(), "keys/")
	s.tampered(func(all map[string]map[string]any) { all[ada]["index"] = all[bob]["index"] }, func() {
		opened, err := server.Open(t.Context(), s.Options())
		if err != nil {
			t.Fatal(err)
		}
		defer opened.Stop(t.Context())
		a, ok := recorded.Attributes(label)
		if !ok || keystore.Drift(a, was) == nil {
			t.Errorf("%v, %v: a record that cannot be believed fits the key", a, ok)
		}
	})
}

// TestNobodyHasAKeyDestroyedByEditingTheFile: a destruction is carried out only where proved entries order it.
func TestNobodyHasAKeyDestroyedByEditingTheFile(t *testing.T) {
	t.Attr("requirement", "B-31")
	s := startKeys(t)
	old, file := s.retired("v1.0.0")
	asked, err := s.request(old.GetName())
	if err != nil {
		t.Fatal(err)
	}
	current := s.adaKey()
	refused := func(what string, k *signetv1.Key, confirm func(destruction map[string]any)) {
		t.Helper()
		name := strings.TrimPrefix(k.GetName(), "keys/")
		s.tampered(func(all map[string]map[string]any) {
			d, _ := all[strings.TrimPrefix(old.GetName(), "keys/")]["destruction"].(map[string]any)
			if d == nil || d["id"] != asked.GetDestruction().GetId() {
				t.Fatal("the request is not where it was expected")
			}
			confirm(d)
			all[name]["state"], all[name]["destruction"] = "destroying", d
		}, func() {
			opened, err := server.Open(t.Context(), s.Options())
			if err == nil {
				_ = opened.Stop(t.Context())
				t.Errorf("%s: the server opens", what)
			}
			if !s.inHSM(k) {
				t.Errorf("%s: it was destroyed", what)
			}
		})
	}
	byTheRequest := func(d map[string]any) { d["confirmed"], d["confirmer"] = d["requested"], d["requester"] }
	refused("a key in use", current, byTheRequest)
	refused("a key whose destruction was asked for", old, byTheRequest)
	if _, err := s.confirm(old.GetName(), asked.GetDestruction().GetId()); err != nil {
		t.Fatal(err)
	}
	refused("a key in use, by the confirmation of another", current, func(map[string]any) {})
	s.wantVerdict(file, verify.OK)
}

// tampered edits the rows of keys behind the server's back while it is stopped, runs fn, and brings the file back as it was.
func (s *keyScene) tampered(edit func(all map[string]map[string]any), fn func()) {
	s.t.Helper()
	path := s.Config.Path(server.LedgerFile)
	s.Stop()
	before := map[string][]byte{} // the ledger, and what beside it says how far it went
	files, err := filepath.Glob(strings.TrimSuffix(path, ".db") + ".*")
	if err != nil {
		s.t.Fatal(err)
	}
	for _, file := range files {
		if before[file], err = os.ReadFile(file); err != nil {
			s.t.Fatal(err)
		}
	}
	db, err := bolt.Open(path, 0o600, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	err = db.Update(func(tx *bolt.Tx) error {
		version := tx.Bucket([]byte("projections")).Bucket([]byte("keys"))
		newest, _ := version.Cursor().Last()
		b := version.Bucket(newest).Bucket([]byte("all"))
		rows := map[string]map[string]any{}
		err := b.ForEach(func(k, v []byte) error {
			var row map[string]any
			rows[string(k)] = row
			err := json.Unmarshal(v, &row)
			rows[string(k)] = row
			return err
		})
		if err != nil {
			return err
		}
		edit(rows)
		destroying, err := version.Bucket(newest).CreateBucketIfNotExists([]byte("destroying"))
		if err != nil {
			return err
		}
		for k, row := range rows {
			v, err := json.Marshal(row)
			if err != nil {
				return err
			}
			if err := b.Put([]byte(k), v); err != nil {
				return err
			}
			if row["state"] == "destroying" {
				if err := destroying.Put([]byte(k), nil); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err := errors.Join(err, db.Close()); err != nil {
		s.t.Fatal(err)
	}
	fn()
	for file, content := range before {
		if err := os.WriteFile(file, content, 0o600); err != nil {
			s.t.Fatal(err)
		}
	}
	s.restart()
}
