package ledger_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/server/internal/ledger"
	"github.com/signetd/signet/server/internal/ledger/ledgertest"
)

// filled makes a ledger with entries, attachments, requests, private rows and two checkpoints, and closes it.
func filled(t testing.TB) ledger.Options {
	t.Helper()
	o := ledgertest.Options(t, statuses{})
	l := ledgertest.Open(t, o)
	token := []byte("a time-stamp token")
	digest := sha256.Sum256(token)
	for i := range 12 {
		do(t, l, func(tx *ledger.Tx) error {
			tx.Emit(ledger.Event{Type: chain.RecordCreated, Actor: actor, Request: hex.EncodeToString(bytes.Repeat([]byte{byte(i + 1)}, 32)),
				Body: body{Key: fmt.Sprint("r", i%5), Status: "prepared", Digests: []string{hex.EncodeToString(digest[:])}}, Attachments: [][]byte{token}})
			tx.PutPrivate("secrets", []byte("k"), []byte("v"))
			return nil
		})
		if i == 6 {
			if _, err := l.Checkpointed(t.Context(), 7); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := l.Checkpointed(t.Context(), 12); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return o
}

// copyOf returns the options of a copy of a ledger.
func copyOf(t testing.TB, o ledger.Options) ledger.Options {
	t.Helper()
	to := filepath.Join(t.TempDir(), "ledger.db")
	copyFile(t, o.Path, to)
	o.Path = to
	return o
}

// edit changes a ledger file behind the program's back.
func edit(t testing.TB, o ledger.Options, fn func(tx *bolt.Tx) error) {
	t.Helper()
	db, err := bolt.Open(o.Path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Update(fn); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

func at(index uint64) []byte { return binary.BigEndian.AppendUint64(nil, index) }

func bucket(tx *bolt.Tx, names ...string) *bolt.Bucket {
	b := tx.Bucket([]byte(names[0]))
	for _, n := range names[1:] {
		b = b.Bucket([]byte(n))
	}
	return b
}

// Whatever is edited in the file, Check finds and names it.
func TestCheckFindsEdits(t *testing.T) {
	o := filled(t)
	report := ledgertest.Check(t, o)
	if report.Size != 12 || report.Checkpoints < 2 || report.Attachments != 12 || report.Rows != 5+12 {
		t.Fatalf("report %+v", report)
	}
	replace := func(b *bolt.Bucket, key []byte, from, to string) error {
		old := b.Get(key)
		changed := bytes.Replace(old, []byte(from), []byte(to), 1)
		if bytes.Equal(old, changed) {
			return fmt.Errorf("%q does not hold %q", old, from)
		}
		return b.Put(key, changed)
	}
	for _, c := range []struct {
		requirement, name string
		edit              func(tx *bolt.Tx) error
		want              string // what the fault must name
	}{
		{"A-05", "a status set to approved", func(tx *bolt.Tx) error {
			return bucket(tx, "projections", "statuses", "1", "status").Put([]byte("r3"), []byte("approved"))
		}, `projection statuses, key "status", key "r3": it was changed: the file has "approved", the entries give "prepared"`},
		{"A-05", "a status added", func(tx *bolt.Tx) error {
			return bucket(tx, "projections", "statuses", "1", "status").Put([]byte("r99"), []byte("approved"))
		}, `key "r99": no entry gives this row`},
		{"A-05", "a status removed", func(tx *bolt.Tx) error {
			return bucket(tx, "projections", "statuses", "1", "status").Delete([]byte("r0"))
		}, `key "r0": it is missing`},
		{"A-05", "a whole bucket removed", func(tx *bolt.Tx) error {
			return bucket(tx, "projections", "statuses", "1").DeleteBucket([]byte("history"))
		}, `key "history"`},
		{"A-05", "a bucket added", func(tx *bolt.Tx) error {
			b, err := bucket(tx, "projections", "statuses", "1").CreateBucket([]byte("approvals"))
			if err != nil {
				return err
			}
			return b.Put([]byte("r0"), []byte("yes"))
		}, `key "approvals"`},
		{"A-05", "a projection that nobody knows", func(tx *bolt.Tx) error {
			_, err := bucket(tx, "projections").CreateBucket([]byte("approvals"))
			return err
		}, `projection "approvals"`},
		{"11.10(a)", "an entry's body", func(tx *bolt.Tx) error {
			return replace(bucket(tx, "entries"), at(4), "prepared", "approved")
		}, "entry 4: its tree hashes are"},
		{"11.10(a)", "an entry's body, and the hashes with it", func(tx *bolt.Tx) error {
			if err := replace(bucket(tx, "entries"), at(4), "prepared", "approved"); err != nil {
				return err
			}
			h := chain.LeafHash(bucket(tx, "entries").Get(at(4)))
			return bucket(tx, "hashes").Put(at(4), h[:])
		}, "entry 5: prev is"},
		{"11.10(a)", "the last entry, and its hashes", func(tx *bolt.Tx) error {
			if err := replace(bucket(tx, "entries"), at(10), "prepared", "approved"); err != nil {
				return err
			}
			h := chain.LeafHash(bucket(tx, "entries").Get(at(10)))
			return bucket(tx, "hashes").Put(at(10), h[:])
		}, "checkpoint of"},
		{"11.10(a)", "an entry that is no JSON", func(tx *bolt.Tx) error { return bucket(tx, "entries").Put(at(4), []byte("{}")) }, "entry 4: malformed entry"},
		{"11.10(a)", "a tree hash", func(tx *bolt.Tx) error {
			h := bytes.Clone(bucket(tx, "hashes").Get(at(7)))
			h[40] ^= 1
			return bucket(tx, "hashes").Put(at(7), h)
		}, "entry 7: its tree hashes are"},
		{"11.10(a)", "a tree hash removed", func(tx *bolt.Tx) error { return bucket(tx, "hashes").Delete(at(7)) }, "entry 7: its tree hashes are missing"},
		{"11.10(a)", "an attachment", func(tx *bolt.Tx) error {
			return replace(bucket(tx, "attachments"), append(at(3), 0, 0), "token", "Token")
		}, "entry 3: attachment 0 has the SHA-256"},
		{"11.10(a)", "an attachment added", func(tx *bolt.Tx) error {
			return bucket(tx, "attachments").Put(append(at(3), 0, 9), []byte("x"))
		}, "attachment, key 00000000000000030009: it belongs to no entry"},
		{"11.10(a)", "an attachment beyond the last entry", func(tx *bolt.Tx) error {
			return bucket(tx, "attachments").Put(append(at(12), 0, 0), []byte("x"))
		}, "it lies beyond the last of 12 entries"},
		{"11.10(a)", "an entry's time", func(tx *bolt.Tx) error {
			return replace(bucket(tx, "entries"), at(11), `"time":"20`, `"time":"19`)
		}, "entry 11: its time"},
		{"11.10(a)", "a checkpoint's size", func(tx *bolt.Tx) error {
			b := bucket(tx, "checkpoints")
			signed := bytes.Clone(b.Get(at(7)))
			if err := b.Delete(at(7)); err != nil {
				return err
			}
			return b.Put(at(6), signed)
		}, "checkpoint, key 0000000000000006: it has 7 entries and stands in another place"},
		{"11.10(a)", "a checkpoint's signature", func(tx *bolt.Tx) error {
			return replace(bucket(tx, "checkpoints"), at(7), "\n7\n", "\n8\n")
		}, "checkpoint, key 0000000000000007: checkpoint signature does not verify"},
		{"11.10(a)", "a request forgotten", func(tx *bolt.Tx) error {
			k, row := bucket(tx, "requests").Cursor().First()
			return bucket(tx, "requests").Put(k, bytes.Clone(row[16:]))
		}, "entry 0: its request is not in the index of requests"},
		{"11.10(a)", "a request invented", func(tx *bolt.Tx) error {
			k, row := bucket(tx, "requests").Cursor().First()
			return bucket(tx, "requests").Put(k, append(bytes.Repeat([]byte{0, 1}, 8), row...))
		}, "index of requests: it has 13 records"},
		{"11.10(a)", "requests in another order", func(tx *bolt.Tx) error {
			k, row := bucket(tx, "requests").Cursor().First()
			return bucket(tx, "requests").Put(k, append(bytes.Clone(row[16:]), row[:16]...))
		}, "index of requests"},
		{"11.10(a)", "a bucket that nobody knows", func(tx *bolt.Tx) error {
			_, err := tx.CreateBucket([]byte("backdoor"))
			return err
		}, `bucket "backdoor"`},
		{"11.10(a)", "a meta row", func(tx *bolt.Tx) error { return bucket(tx, "meta").Put([]byte("x"), []byte("y")) }, `meta row "x"`},
		{"B-47", "an entry deleted", func(tx *bolt.Tx) error { return bucket(tx, "entries").Delete(at(5)) }, "entry 5: missing"},
		{"B-47", "the first entry deleted", func(tx *bolt.Tx) error { return bucket(tx, "entries").Delete(at(0)) }, "entry 0: missing"},
		{"B-47", "the last entry deleted", func(tx *bolt.Tx) error { return bucket(tx, "entries").Delete(at(11)) }, "it lies beyond the last of 11 entries"},
		{"B-47", "two entries swapped", func(tx *bolt.Tx) error {
			b := bucket(tx, "entries")
			e5, e6 := bytes.Clone(b.Get(at(5))), bytes.Clone(b.Get(at(6)))
			return errors.Join(b.Put(at(5), e6), b.Put(at(6), e5))
		}, "entry 5: it says that it is entry 6"},
		{"B-47", "the end cut off cleanly, checkpoint left", func(tx *bolt.Tx) error {
			for _, name := range []string{"entries", "hashes", "attachments"} {
				c := bucket(tx, name).Cursor()
				for k, _ := c.Seek(at(9)); k != nil; k, _ = c.Seek(at(9)) {
					if err := c.Delete(); err != nil {
						return err
					}
				}
			}
			return nil
		}, "entries are missing"},
	} {
		t.Run(c.requirement+" "+c.name, func(t *testing.T) {
			t.Attr("requirement", c.requirement)
			o := copyOf(t, o)
			edit(t, o, c.edit)
			report, err := ledger.Check(t.Context(), o.Path, o, nil)
			if !errors.Is(err, ledger.ErrCorrupt) || len(report.Faults) == 0 {
				t.Fatalf("not found: %v", err)
			}
			all := fmt.Sprint(report.Faults)
			if !strings.Contains(all, c.want) {
				t.Errorf("the faults do not name %q:\n%v", c.want, report.Faults)
			}
			scrubFinds(t, o, c.name)
		})
	}
}

// A file cut back together with its checkpoints looks whole; who has seen a later checkpoint finds it.
func TestRolledBackFileIsRefused(t *testing.T) {
	t.Attr("requirement", "11.10(a)")
	o := ledgertest.Options(t, statuses{})
	l := ledgertest.Open(t, o)
	do(t, l, set("a", "1"))
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	old := copyOf(t, o)
	l = ledgertest.Open(t, o)
	do(t, l, set("a", "2"))
	signed, err := l.Checkpointed(t.Context(), 2)
	if err != nil {
		t.Fatal(err)
	}
	old.Seen = [][]byte{signed.Note}
	if _, err := ledger.Open(t.Context(), old); !errors.Is(err, ledger.ErrRolledBack) {
		t.Errorf("opening the older copy: %v", err)
	}
	if _, err := ledger.Check(t.Context(), old.Path, old, nil); !errors.Is(err, ledger.ErrCorrupt) || !strings.Contains(err.Error(), "older copy") {
		t.Errorf("checking the older copy: %v", err)
	}
	// Another history of the same length is a fork.
	fork := old
	fork.Seen = nil
	f := ledgertest.Open(t, fork)
	do(t, f, set("a", "other"))
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := ledger.Open(t.Context(), old); !errors.Is(err, ledger.ErrRolledBack) {
		t.Errorf("opening the fork: %v", err)
	}
	if _, err := ledger.Check(t.Context(), old.Path, old, nil); !errors.Is(err, ledger.ErrCorrupt) || !strings.Contains(err.Error(), "seen elsewhere") {
		t.Errorf("checking the fork: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	o.Seen = old.Seen
	ledgertest.Open(t, o) // the true one is accepted
}

// A changed byte anywhere in the pages that are in use is found, or changes nothing that the file says; and none crashes.
func TestCheckFindsChangedBytes(t *testing.T) {
	t.Parallel()
	t.Attr("requirement", "11.10(a)")
	o := filled(t)
	want := ledgertest.Check(t, o)
	raw, err := os.ReadFile(o.Path)
	if err != nil {
		t.Fatal(err)
	}
	db, err := bolt.Open(o.Path, 0o600, &bolt.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	var used int64
	db.View(func(tx *bolt.Tx) error { used = tx.Size(); return nil })
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	changed := copyOf(t, o)
	f, err := os.OpenFile(changed.Path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	// Every bit of every byte takes long; a stride that is no multiple of anything passes through all fields of all rows.
	found, quiet := 0, 0
	for i := int64(0); i < used; i += 37 {
		if raw[i] == 0 && i%5 != 0 { // most zeros are unused space
			continue
		}
		if _, err := f.WriteAt([]byte{raw[i] ^ 1<<(i%8)}, i); err != nil {
			t.Fatal(err)
		}
		report, err := ledger.Check(t.Context(), changed.Path, changed, nil)
		switch {
		case errors.Is(err, ledger.ErrCorrupt), errors.Is(err, ledger.ErrNewerVersion), errors.Is(err, ledger.ErrInvalid):
			found++
		case err != nil:
			t.Fatalf("byte %d: %v", i, err)
		case report.Root != want.Root || report.Size != want.Size || report.Rows != want.Rows:
			if report.Size < want.Size { // the older of the two meta pages: a whole earlier state, which Options.Seen finds
				quiet++
				break
			}
			t.Fatalf("byte %d changed what the file says, and nothing was found: %+v", i, report)
		default:
			quiet++
		}
		if _, err := f.WriteAt(raw[i:i+1], i); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d bytes changed: %d found, %d in space that nothing uses", found+quiet, found, quiet)
	if found == 0 {
		t.Error("nothing was found")
	}
}

// FuzzCheck changes bytes of a ledger file and cuts it: Check and Open must come back, whatever the pages say.
func FuzzCheck(f *testing.F) {
	o := filled(f)
	raw, err := os.ReadFile(o.Path)
	if err != nil {
		f.Fatal(err)
	}
	db, err := bolt.Open(o.Path, 0o600, &bolt.Options{ReadOnly: true})
	if err != nil {
		f.Fatal(err)
	}
	db.View(func(tx *bolt.Tx) error { raw = raw[:tx.Size()]; return nil })
	if err := db.Close(); err != nil {
		f.Fatal(err)
	}
	f.Add([]byte{}, uint32(0))
	f.Add([]byte{0, 0, 0, 17, 1, 0, 0, 32, 8, 255}, uint32(0)) // offset (4 bytes) and value, several times
	f.Add([]byte{0, 0, 16, 0, 9}, uint32(4096))
	f.Fuzz(func(t *testing.T, edits []byte, cut uint32) {
		b := bytes.Clone(raw)
		for ; len(edits) >= 5; edits = edits[5:] {
			b[int(binary.BigEndian.Uint32(edits)%uint32(len(b)))] = edits[4]
		}
		o := o
		o.InitialMmap = 1 << 20
		o.Path = filepath.Join(t.TempDir(), "ledger.db")
		if err := os.WriteFile(o.Path, b[:len(b)-int(cut%uint32(len(b)))], 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := ledger.Check(t.Context(), o.Path, o, nil); err != nil {
			return // Open is not asked to survive what Check has named
		}
		l, err := ledger.Open(t.Context(), o)
		if err != nil {
			t.Fatalf("it checks, but does not open: %v", err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestTruncatedFiles(t *testing.T) {
	o := filled(t)
	raw, err := os.ReadFile(o.Path)
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{1, 16, 100, 4096, 8192, 3*4096 + 17, 16384, 65536} {
		cut := o
		cut.Path = filepath.Join(t.TempDir(), "ledger.db")
		if err := os.WriteFile(cut.Path, raw[:size], 0o600); err != nil {
			t.Fatal(err)
		}
		if l, err := ledger.Open(t.Context(), cut); !errors.Is(err, ledger.ErrCorrupt) {
			t.Errorf("opening %d bytes: %v, %v", size, l, err)
		}
		if _, err := ledger.Check(t.Context(), cut.Path, cut, nil); !errors.Is(err, ledger.ErrCorrupt) {
			t.Errorf("checking %d bytes: %v", size, err)
		}
	}
	cut := o
	cut.Path = filepath.Join(t.TempDir(), "none.db")
	if _, err := ledger.Check(t.Context(), cut.Path, cut, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("checking no file: %v", err)
	}
	if _, err := os.Stat(cut.Path); !errors.Is(err, fs.ErrNotExist) {
		t.Error("checking made a file")
	}
}

func TestCheckPrivate(t *testing.T) {
	o := filled(t)
	o.CheckPrivate = func(r *ledger.Read) error {
		if v := r.GetPrivate("secrets", []byte("k")); string(v) != "v" {
			return fmt.Errorf("secrets k is %q", v)
		}
		if r.View("statuses").Get("status", []byte("r0")) == nil || r.Head().Checkpoint.Size != 12 {
			return errors.New("the projections or the head are not to be seen")
		}
		return nil
	}
	ledgertest.Check(t, o)
	edit(t, o, func(tx *bolt.Tx) error { return bucket(tx, "private", "secrets").Put([]byte("k"), []byte("other")) })
	_, err := ledger.Check(t.Context(), o.Path, o, nil)
	if !errors.Is(err, ledger.ErrCorrupt) || !strings.Contains(err.Error(), "private rows") {
		t.Errorf("a swapped private row: %v", err)
	}
	edit(t, o, func(tx *bolt.Tx) error { return bucket(tx, "private", "secrets").Put([]byte("k"), []byte("v")) })
}

func TestCheckCanBeCancelled(t *testing.T) {
	o := filled(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := ledger.Check(ctx, o.Path, o, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	var last, total uint64
	if _, err := ledger.Check(t.Context(), o.Path, o, func(d, n uint64) { last, total = d, n }); err != nil || last != 12 || total != 12 {
		t.Errorf("progress %d of %d, %v", last, total, err)
	}
}
