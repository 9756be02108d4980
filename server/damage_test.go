package server_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"

	"github.com/signetd/signet/server"
)

// anyhow says that the server may start or not.
const anyhow = "*"

// damage is something done to the ledger of a service that is stopped.
type damage struct {
	name        string
	requirement string
	file        func(raw []byte) []byte         // changes bytes of the file
	rows        func(tx *bolt.Tx) error         // or rows
	options     func(o *server.Options)         // or what it is opened with
	folder      func(t *testing.T, path string) // or what stands beside it
	open        string                          // what the server says when it refuses to start; empty: it starts
	check       string                          // what `ledger check` names
}

func rowsOf(tx *bolt.Tx, names ...string) *bolt.Bucket {
	b := tx.Bucket([]byte(names[0]))
	for _, n := range names[1:] {
		b = b.Bucket([]byte(n))
	}
	return b
}

// newest returns the buckets of a projection's version.
func newest(tx *bolt.Tx, projection string) *bolt.Bucket {
	named := rowsOf(tx, "projections", projection)
	version, _ := named.Cursor().Last()
	return named.Bucket(version)
}

func key(index uint64) []byte { return binary.BigEndian.AppendUint64(nil, index) }

func swapRows(b *bolt.Bucket, one, other []byte) error {
	first, second := bytes.Clone(b.Get(one)), bytes.Clone(b.Get(other))
	if first == nil || second == nil || bytes.Equal(first, second) {
		return fmt.Errorf("the rows %x and %x cannot be swapped", one, other)
	}
	return errors.Join(b.Put(one, second), b.Put(other, first))
}

// replaceIn changes the text of a row.
func replaceIn(b *bolt.Bucket, from, to string) error {
	var found []byte
	var row []byte
	err := b.ForEach(func(k, v []byte) error {
		if found == nil && bytes.Contains(v, []byte(from)) {
			found, row = bytes.Clone(k), bytes.Replace(v, []byte(from), []byte(to), 1)
		}
		return nil
	})
	if err == nil && found == nil {
		err = fmt.Errorf("no row holds %q", from)
	}
	return errors.Join(err, b.Put(found, row))
}

// TestDamage: whatever is done to the ledger of a stopped service is found at the start or by check, and named.
func TestDamage(t *testing.T) {
	s := startKeys(t)
	s.approved("v1.0.0")
	s.Stop()
	size := s.Check().Entries
	path := s.Config.Path(server.LedgerFile)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	s.restart()
	s.approved("v1.0.1")
	waiting := header("ada")
	waiting.Version = "v1.0.2"
	s.create(waiting)
	s.Stop()
	before := s.beside()
	yesterday, ada := whole, strings.TrimPrefix(s.adaID, "signers/")
	last := s.Check().Entries - 1

	for _, d := range []damage{
		{name: "yesterday's file put back", requirement: "11.10(a)", file: func([]byte) []byte { return yesterday },
			open: fmt.Sprintf("the entries %d to %d are missing", size, last), check: "it is an older copy"},
		{name: "yesterday's file put back, and what stands beside it removed but for how it was left", requirement: "11.10(a)",
			file: func([]byte) []byte { return yesterday },
			folder: func(t *testing.T, path string) {
				if err := os.Remove(path + ".checkpoint"); err != nil {
					t.Fatal(err)
				}
			}, open: "ledger.state has seen", check: "ledger.state has seen it"},
		{name: "a gap", requirement: "B-47", rows: func(tx *bolt.Tx) error { return rowsOf(tx, "entries").Delete(key(7)) }, check: "entry 7: missing"},
		{name: "the last entry removed", requirement: "B-47", rows: func(tx *bolt.Tx) error { return rowsOf(tx, "entries").Delete(key(last)) },
			open: "missing", check: "missing"},
		{name: "two entries swapped", requirement: "B-47", rows: func(tx *bolt.Tx) error { return swapRows(rowsOf(tx, "entries"), key(20), key(21)) },
			open: anyhow, check: "entry 20: it says that it is entry 21"},
		{name: "an entry's text changed", requirement: "11.10(a)", rows: func(tx *bolt.Tx) error {
			return replaceIn(rowsOf(tx, "entries"), "Eve Security", "Ivo Security")
		}, check: "its tree hashes are"},
		{name: "bytes of a page changed", requirement: "11.10(a)", file: func(raw []byte) []byte {
			return bytes.ReplaceAll(raw, []byte("Eve Security"), []byte("Ivo Security"))
		}, check: "entry "},
		{name: "the root page of the tree of buckets overwritten", requirement: "11.10(a)", file: overwriteRoot, open: "corrupt", check: "the file"},
		{name: "the file cut off", requirement: "11.10(a)", file: func(raw []byte) []byte { return raw[:3*4096] }, open: "truncated", check: "truncated"},
		{name: "the file emptied", requirement: "11.10(a)", file: func([]byte) []byte { return nil }, open: "missing or empty", check: "is empty"},
		{name: "another file in its place", requirement: "11.10(a)", file: func(raw []byte) []byte { return bytes.Repeat([]byte("x"), len(raw)) },
			open: "not a ledger", check: "not a ledger"},
		{name: "another ledger's origin", requirement: "11.10(a)", options: func(o *server.Options) { o.Config.Ledger.Origin = "other.example/ledger" },
			open: `the file is the ledger "` + s.Config.Ledger.Origin + `", not "other.example/ledger"`, check: "other.example/ledger"},
		{name: "the origin in the file changed", requirement: "11.10(a)", rows: func(tx *bolt.Tx) error {
			return rowsOf(tx, "meta").Put([]byte("origin"), []byte("other.example/ledger"))
		}, open: `the file is the ledger "other.example/ledger"`, check: "other.example/ledger"},
		{name: "the newest checkpoint removed", requirement: "11.10(a)", rows: func(tx *bolt.Tx) error {
			c := rowsOf(tx, "checkpoints").Cursor()
			if k, _ := c.Last(); k == nil {
				return errors.New("there is none")
			}
			return c.Delete()
		}},
		{name: "a status set to approved", requirement: "A-05", rows: func(tx *bolt.Tx) error {
			return replaceIn(newest(tx, "signing").Bucket([]byte("records")), `"status":"open"`, `"status":"approved"`)
		}, check: `projection signing, key "records"`},
		{name: "an administrator's row in the place of a signer's", requirement: "A-05", rows: func(tx *bolt.Tx) error {
			return replaceIn(newest(tx, "identity").Bucket([]byte("signers")), `"roles":["signer"]`, `"roles":["administrator","signer"]`)
		}, check: `projection identity, key "signers"`},
		{name: "two private rows swapped", requirement: "11.10(a)", rows: func(tx *bolt.Tx) error {
			return swapRows(rowsOf(tx, "private", "identity.verifiers"), []byte(ada), []byte(strings.TrimPrefix(s.bobID, "signers/")))
		}, check: "the password verifier of " + ada + " is not that of entry"},
		{name: "a private row removed", requirement: "11.10(a)", rows: func(tx *bolt.Tx) error {
			return rowsOf(tx, "private", "identity.verifiers").Delete([]byte(ada))
		}, check: "the password verifier of " + ada},
		{name: "an attachment changed", requirement: "11.10(a)", rows: func(tx *bolt.Tx) error {
			b := rowsOf(tx, "attachments")
			k, v := b.Cursor().Last()
			return b.Put(bytes.Clone(k), append([]byte{1}, v...))
		}, check: "attachment"},
		{name: "a tree hash changed", requirement: "11.10(a)", rows: func(tx *bolt.Tx) error {
			b := rowsOf(tx, "hashes")
			row := bytes.Clone(b.Get(key(3)))
			row[0] ^= 1
			return b.Put(key(3), row)
		}, open: "corrupt", check: "entry 3: its tree hashes are"},
	} {
		t.Run(d.name, func(t *testing.T) {
			t.Attr("requirement", d.requirement)
			defer func() {
				for file, content := range before {
					if err := os.WriteFile(file, content, 0o600); err != nil {
						t.Fatal(err)
					}
				}
			}()
			o := s.Options()
			d.apply(t, path, &o)
			report, err := server.CheckLedger(t.Context(), o, nil)
			found := fmt.Sprint(err)
			for _, f := range report.Faults {
				found += "\n" + f.Where + ": " + f.What
			}
			if d.check != "" && !strings.Contains(found, d.check) {
				t.Errorf("check does not name %q: %s", d.check, found)
			}
			opened, err := server.Open(t.Context(), o)
			switch {
			case err == nil:
				if err := opened.Stop(t.Context()); err != nil {
					t.Error(err)
				}
				if d.open != "" && d.open != anyhow {
					t.Errorf("it starts; check says: %s", found)
				}
			case d.open == anyhow:
			case d.open == "":
				t.Errorf("it does not start: %v", err)
			case !strings.Contains(err.Error(), d.open):
				t.Errorf("the refusal does not name %q: %v", d.open, err)
			}
		})
	}
	s.restart()
}

func (d damage) apply(t *testing.T, path string, o *server.Options) {
	t.Helper()
	if d.file != nil {
		raw, err := os.ReadFile(path)
		if err == nil {
			err = os.WriteFile(path, d.file(bytes.Clone(raw)), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if d.rows != nil {
		db, err := bolt.Open(path, 0o600, nil)
		if err == nil {
			err = errors.Join(db.Update(d.rows), db.Close())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if d.options != nil {
		d.options(o)
	}
	if d.folder != nil {
		d.folder(t, strings.TrimSuffix(path, filepath.Ext(path)))
	}
}

// overwriteRoot overwrites the page from which all buckets hang.
func overwriteRoot(raw []byte) []byte {
	le, page := binary.LittleEndian, os.Getpagesize()
	meta := raw[16:80]
	if second := raw[page+16 : page+80]; le.Uint64(second[48:]) > le.Uint64(meta[48:]) {
		meta = second
	}
	root := int(le.Uint64(meta[16:])) * page
	for i := range page {
		raw[root+i] = 0xa5
	}
	return raw
}
