package identity

import (
	"bytes"
	"encoding/json/v2"
	"errors"
	"strconv"
	"testing"

	bolt "go.etcd.io/bbolt"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/server/internal/ledger"
)

// edit changes rows of the ledger's file behind the program's back.
func edit(t *testing.T, path, top, sub string, change func(rows map[string][]byte)) {
	t.Helper()
	names := []string{top}
	if sub != "" {
		names = append(names, sub)
	}
	editBucket(t, path, names, change)
}

// editRow changes rows of this package's projection.
func editRow(t *testing.T, path, bucket string, change func(rows map[string][]byte)) {
	t.Helper()
	editBucket(t, path, []string{"projections", projectionName, strconv.Itoa(Projection().Version()), bucket}, change)
}

func editBucket(t *testing.T, path string, names []string, change func(rows map[string][]byte)) {
	t.Helper()
	db, err := bolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	err = db.Update(func(tx *bolt.Tx) error {
		b := tx.Bucket([]byte(names[0]))
		for _, name := range names[1:] {
			b = b.Bucket([]byte(name))
		}
		rows := map[string][]byte{}
		err := b.ForEach(func(k, v []byte) error {
			rows[string(k)] = append([]byte{}, v...)
			return nil
		})
		if err != nil {
			return err
		}
		change(rows)
		for k, v := range rows {
			if err := b.Put([]byte(k), v); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func unmarshal(t *testing.T, b []byte, v any) {
	t.Helper()
	if err := json.Unmarshal(b, v); err != nil {
		t.Fatal(err)
	}
}

func marshal(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestTampering: what was changed in the file behind the program's back is refused, not believed.
func TestTampering(t *testing.T) {
	reopen := func(f *fixture) {
		var err error
		if f.ledger, err = ledger.Open(t.Context(), f.options); err != nil {
			t.Fatal(err)
		}
		f.open()
	}
	prepare := func(t *testing.T) (*fixture, Signer, Signer) {
		f := prepareFixture(t)
		reopen(f)
		t.Cleanup(func() { f.ledger.Close() })
		admin, _, ada := f.ada()
		alan := f.enrol(admin, "alan", "Alan Turing", secondPass, RoleSigner)
		return f, ada, alan
	}
	t.Run("a swapped verifier", func(t *testing.T) {
		t.Attr("requirement", "A-15")
		f, ada, alan := prepare(t)
		f.ledger.Close()
		edit(t, f.options.Path, "private", privateVerifiers, func(rows map[string][]byte) {
			rows[ada.ID] = rows[alan.ID] // an administrator of the machine puts a known password in Ada's place
		})
		reopen(f)
		for _, password := range []Secret{secondPass, adaPass} {
			if _, _, _, err := f.d.OpenSession(t.Context(), desk, "ada", password); !errors.Is(err, ErrTampered) {
				t.Errorf("error %v, want tampered", err)
			}
		}
		last := f.entries(f.ledger.Size() - 1)[0]
		if last.Type != chain.AccessDenied {
			t.Errorf("the last entry is %s", last.Type)
		}
		f.login("alan", secondPass)
		f.ledger.Close()
		report, err := ledger.Check(t.Context(), f.options.Path, f.options, nil)
		if err == nil && len(report.Faults) == 0 {
			t.Error("the ledger check finds nothing")
		}
	})
	t.Run("a swapped verifier and its commitment in the projection", func(t *testing.T) {
		f, ada, alan := prepare(t)
		f.ledger.Close()
		edit(t, f.options.Path, "private", privateVerifiers, func(rows map[string][]byte) { rows[ada.ID] = rows[alan.ID] })
		editRow(t, f.options.Path, bucketSigners, func(rows map[string][]byte) {
			var a, b signerRow
			unmarshal(t, rows[ada.ID], &a)
			unmarshal(t, rows[alan.ID], &b)
			a.Credential = b.Credential
			rows[ada.ID] = marshal(t, a)
		})
		reopen(f)
		if _, _, _, err := f.d.OpenSession(t.Context(), desk, "ada", secondPass); !errors.Is(err, ErrTampered) {
			t.Errorf("error %v, want tampered", err)
		}
	})
	t.Run("a commitment in the projection", func(t *testing.T) {
		f, ada, _ := prepare(t)
		f.ledger.Close()
		editRow(t, f.options.Path, bucketSigners, func(rows map[string][]byte) {
			var a signerRow
			unmarshal(t, rows[ada.ID], &a)
			a.Credential = hexSum(nil)
			rows[ada.ID] = marshal(t, a)
		})
		reopen(f)
		if _, _, _, err := f.d.OpenSession(t.Context(), desk, "ada", adaPass); !errors.Is(err, ErrTampered) {
			t.Errorf("error %v, want tampered", err)
		}
	})
	t.Run("another's key and enrolment in the projection", func(t *testing.T) {
		t.Attr("requirement", "B-36")
		f, ada, alan := prepare(t)
		f.ledger.Close()
		editRow(t, f.options.Path, bucketSigners, func(rows map[string][]byte) {
			var a, b signerRow
			unmarshal(t, rows[ada.ID], &a)
			unmarshal(t, rows[alan.ID], &b)
			a.KeyID, a.Enrolled, a.Enrolment = b.KeyID, b.Enrolled, b.Enrolment
			rows[ada.ID] = marshal(t, a)
		})
		reopen(f)
		if _, err := f.identity(ada.ID); !errors.Is(err, ErrTampered) {
			t.Errorf("error %v, want tampered", err)
		}
	})
	t.Run("another role in a pending invitation gives no right", func(t *testing.T) {
		f, _, _ := prepare(t)
		admin := f.login("root", adminPass)
		invited, code, _, err := f.d.InvitePerson(t.Context(), admin, f.invitation("eve", "Eve", RoleAuditor), "")
		if err != nil {
			t.Fatal(err)
		}
		f.ledger.Close()
		editRow(t, f.options.Path, bucketSigners, func(rows map[string][]byte) {
			var e signerRow
			unmarshal(t, rows[invited.ID], &e)
			e.Roles = []Role{RoleAdministrator}
			rows[invited.ID] = marshal(t, e)
		})
		reopen(f)
		s, err := f.d.Redeem(t.Context(), desk, code, "eve", adaPass, true)
		if err != nil || len(s.Roles) != 1 || s.Roles[0] != RoleAuditor {
			t.Errorf("roles %v, %v", s.Roles, err)
		}
	})
	t.Run("an edited enrolment entry", func(t *testing.T) {
		t.Attr("requirement", "A-18")
		f, ada, _ := prepare(t)
		index := must(f.identity(ada.ID)).EnrolmentIndex
		f.ledger.Close()
		edit(t, f.options.Path, "entries", "", func(rows map[string][]byte) {
			key := string(indexKey(index))
			rows[key] = bytes.Replace(rows[key], []byte("Ada Lovelace"), []byte("Eve Lovelace"), 1)
		})
		reopen(f)
		if _, err := f.identity(ada.ID); !errors.Is(err, ledger.ErrCorrupt) {
			t.Errorf("error %v, want corrupt", err)
		}
	})
	t.Run("the key that blinds names", func(t *testing.T) {
		f, _, _ := prepare(t)
		f.ledger.Close()
		edit(t, f.options.Path, "private", privateKeys, func(rows map[string][]byte) { rows[namesKey] = make([]byte, 32) })
		reopen(f)
		if _, _, _, err := f.d.OpenSession(t.Context(), desk, "ada", adaPass); !errors.Is(err, ErrTampered) {
			t.Errorf("error %v, want tampered", err)
		}
	})
}
