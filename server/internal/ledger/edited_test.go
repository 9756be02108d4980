package ledger_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/server/internal/ledger"
	"github.com/signetd/signet/server/internal/ledger/ledgertest"
)

// A file whose end does not fit its newest checkpoint is not opened: nothing may be appended to it, and no checkpoint signed over it.
func TestEditedFileIsNotOpened(t *testing.T) {
	t.Attr("requirement", "11.10(a)")
	filled := filled(t)
	for _, c := range []struct {
		name string
		edit func(tx *bolt.Tx) error
		want string
	}{
		{"a tree hash", func(tx *bolt.Tx) error {
			h := bytes.Clone(bucket(tx, "hashes").Get(at(7)))
			h[len(h)-1] ^= 1 // the root of the first eight
			return bucket(tx, "hashes").Put(at(7), h)
		}, "the tree of 12 entries has the root"},
		{"the end cut off, the checkpoint left", func(tx *bolt.Tx) error {
			for _, name := range []string{"entries", "hashes", "attachments"} {
				c := bucket(tx, name).Cursor()
				for k, _ := c.Seek(at(9)); k != nil; k, _ = c.Seek(at(9)) {
					if err := c.Delete(); err != nil {
						return err
					}
				}
			}
			return nil
		}, "the newest checkpoint has 12 entries, the ledger only 9"},
		{"an older checkpoint in the place of the newest", func(tx *bolt.Tx) error {
			b := bucket(tx, "checkpoints")
			return b.Put(at(12), bytes.Clone(b.Get(at(7))))
		}, "stands in another place"},
		{"a checkpoint that somebody else signed", func(tx *bolt.Tx) error {
			b := bucket(tx, "checkpoints")
			return b.Put(at(12), bytes.Replace(b.Get(at(12)), []byte("\n12\n"), []byte("\n13\n"), 1))
		}, "the newest checkpoint"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := copyOf(t, filled)
			edit(t, o, c.edit)
			l, err := ledger.Open(t.Context(), o)
			if err == nil {
				_ = l.Close()
			}
			if !errors.Is(err, ledger.ErrCorrupt) || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("opening it: %v, want %q", err, c.want)
			}
		})
	}
	t.Run("another ledger's", func(t *testing.T) {
		o := copyOf(t, filled)
		o.Origin = "other.example/ledger"
		o.Signer.Name = o.Origin
		l, err := ledger.Open(t.Context(), o)
		if err == nil {
			_ = l.Close()
		}
		if !errors.Is(err, ledger.ErrInvalid) || !strings.Contains(err.Error(), "the file is the ledger") {
			t.Fatalf("opening it: %v", err)
		}
	})
}

// An entry that was edited in the file is neither proved nor leaned on, whatever way it is asked for; the others are.
func TestEditedEntryIsNotProved(t *testing.T) {
	t.Attr("requirement", "11.10(a)")
	o := copyOf(t, filled(t))
	edit(t, o, func(tx *bolt.Tx) error {
		b := bucket(tx, "entries")
		return b.Put(at(4), bytes.Replace(b.Get(at(4)), []byte("prepared"), []byte("approved"), 1))
	})
	l, err := ledger.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	head := l.Head()
	for name, ask := range map[string]func(index uint64) error{
		"ProvedEntry": func(index uint64) error {
			return l.View(func(r *ledger.Read) error {
				_, err := r.ProvedEntry(index)
				return err
			})
		},
		"Place": func(index uint64) error {
			_, _, _, err := l.Place(index, 0, head)
			return err
		},
		"Proof": func(index uint64) error {
			_, err := l.Proof(t.Context(), index, head)
			return err
		},
	} {
		if err := ask(4); !errors.Is(err, ledger.ErrCorrupt) || !strings.Contains(err.Error(), "entry 4") {
			t.Errorf("%s of the edited entry: %v", name, err)
		}
		if err := ask(5); err != nil {
			t.Errorf("%s of another entry: %v", name, err)
		}
	}
}

// What an event must not bring with it is refused with the whole command.
func TestEventsAreRefused(t *testing.T) {
	l := ledgertest.New(t, statuses{})
	attachment := []byte("a token")
	sum := sha256.Sum256(attachment)
	digest := hex.EncodeToString(sum[:])
	for _, c := range []struct {
		name string
		ev   ledger.Event
		want error
	}{
		{"an attachment that the body does not name", ledger.Event{Body: body{Key: "k"}, Attachments: [][]byte{attachment}}, ledger.ErrInvalid},
		{"one that is named by a member", ledger.Event{Body: map[string]string{"key": "k", digest: ""}, Attachments: [][]byte{attachment}}, ledger.ErrInvalid},
		{"another one", ledger.Event{Body: body{Key: "k", Digests: []string{digest}}, Attachments: [][]byte{[]byte("another")}}, ledger.ErrInvalid},
		{"too many", ledger.Event{Body: body{Digests: []string{digest}}, Attachments: make([][]byte, ledger.MaxAttachments+1)}, ledger.ErrTooLarge},
		{"too large a one", ledger.Event{Body: body{Digests: []string{digest}}, Attachments: [][]byte{make([]byte, ledger.MaxAttachment+1)}}, ledger.ErrTooLarge},
	} {
		c.ev.Type, c.ev.Actor = chain.RecordCreated, actor
		if _, err := l.Do(t.Context(), emit(c.ev)); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
	if n := l.Size(); n != 0 {
		t.Errorf("%d entries were written", n)
	}
}

// Requests are told apart by their whole hash, and not by the part of it that the index has.
func TestRequestsThatBeginAlike(t *testing.T) {
	l := ledgertest.New(t, statuses{})
	one, two := strings.Repeat("0", 32)+strings.Repeat("1", 32), strings.Repeat("0", 32)+strings.Repeat("2", 32)
	for i, request := range []string{one, two, one} {
		do(t, l, emit(ledger.Event{Type: chain.RecordCreated, Actor: actor, Request: request, Body: body{Key: fmt.Sprint(i)}}))
	}
	err := l.View(func(r *ledger.Read) error {
		if got := fmt.Sprint(r.Request(one), r.Request(two), r.Request(strings.Repeat("0", 64))); got != "[0 2] [1] []" {
			return errors.New(got)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// A checkpoint of another history, put beside the file while it is open, is found by the scrub.
func TestScrubFindsAnotherHistoryBesideTheFile(t *testing.T) {
	t.Attr("requirement", "11.10(a)")
	o := guarded(t)
	grow(t, o, "a", 5)
	l := ledgertest.Open(t, o)
	_, hash, err := chain.VerifierKey(o.Origin, o.Signer.Public)
	if err != nil {
		t.Fatal(err)
	}
	note, err := chain.SignedNote(t.Context(), chain.Checkpoint{Origin: o.Origin, Size: 5, Root: chain.Hash{1}}, o.Origin, hash, o.Signer.Sign)
	if err != nil {
		t.Fatal(err)
	}
	kept, err := os.ReadFile(ledger.BracketPath(o.Path))
	if err != nil {
		t.Fatal(err)
	}
	write(t, ledger.BracketPath(o.Path), fmt.Appendf(nil, `{"format":%q,"note":%q,"tokens":[]}`, ledger.BracketFormat, base64.StdEncoding.EncodeToString(note)))
	report, err := l.Scrub(t.Context(), ledger.ScrubOptions{})
	if !errors.Is(err, ledger.ErrCorrupt) || !strings.Contains(fmt.Sprint(report.Faults), "ledger.bracket says") {
		t.Errorf("%v: %v", err, report.Faults)
	}
	write(t, ledger.BracketPath(o.Path), kept)
}
