package ledger

import (
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/server/internal/failpoint"
)

// Beside the file ledger.db stand up to three small files, of mode 0600, each replaced as a whole (written beside it, made durable, renamed):
//
//	ledger.checkpoint  the newest signed checkpoint, a C2SP signed note with the cosignatures that it has; at most a second old
//	ledger.bracket     the newest checkpoint that was time-stamped, with its tokens
//	ledger.state       how the program left the file: its length, bbolt's transaction, entries and root (signet-ledger-state/v1)
//
// They say how far the ledger once was, so that an older copy, put back by mistake or on purpose, is noticed when it is opened, and so is a
// file that somebody else has written to meanwhile. Who can replace the ledger can replace them, too: against that help those
// who remember elsewhere ([Options.Elsewhere]), which are the witnesses.
//
// ledger.state and ledger.bracket are JSON: every member is there, none beside them, numbers are decimal strings.
//
//	{"bytes":"65536","clean":true,"entries":"12","format":"signet-ledger-state/v1","modified":"1700000000000000000",
//	 "origin":"…","restored":["7"],"root":"<hex>","transaction":"31"}
//	{"format":"signet-ledger-bracket/v1","note":"<base64>","tokens":["<base64>"]}

// Formats of what stands beside the ledger.
const (
	StateFormat   = "signet-ledger-state/v1"
	BracketFormat = "signet-ledger-bracket/v1"
)

// maxSidecar bounds a file beside the ledger: a note, and a few tokens of 64 KiB.
const maxSidecar = 2 << 20

// beside returns the path of a file beside the ledger: that of ledger.db with another ending.
func beside(ledger, ending string) string { return strings.TrimSuffix(ledger, ".db") + ending }

// SidecarPath returns the path of the newest signed checkpoint beside a ledger's file.
func SidecarPath(ledger string) string { return beside(ledger, ".checkpoint") }

// BracketPath returns the path of the newest time-stamped checkpoint beside a ledger's file.
func BracketPath(ledger string) string { return beside(ledger, ".bracket") }

// StatePath returns the path of the note about how the program left the file.
func StatePath(ledger string) string { return beside(ledger, ".state") }

// Bracket is a checkpoint that was time-stamped, and the tokens.
type Bracket struct {
	Note   []byte   // the signed checkpoint
	Tokens [][]byte // RFC 3161, over its SHA-256
}

type bracketFile struct {
	Format string   `json:"format"`
	Note   []byte   `json:"note"`
	Tokens [][]byte `json:"tokens"`
}

// ReadBracket reads the newest time-stamped checkpoint beside a ledger's file and verifies the checkpoint. The error is
// [fs.ErrNotExist] where there is none.
func ReadBracket(ledger string, v note.Verifier) (Bracket, chain.Checkpoint, error) {
	path := BracketPath(ledger)
	b, err := readSmall(path)
	if err != nil {
		return Bracket{}, chain.Checkpoint{}, err
	}
	var f bracketFile
	if err := json.Unmarshal(b, &f, json.RejectUnknownMembers(true)); err != nil {
		return Bracket{}, chain.Checkpoint{}, corrupt("%s: %v", path, err)
	}
	if f.Format != BracketFormat {
		return Bracket{}, chain.Checkpoint{}, corrupt("%s has the format %.80q, want %q", path, f.Format, BracketFormat)
	}
	c, err := chain.OpenCheckpoint(f.Note, v)
	if err != nil {
		return Bracket{}, chain.Checkpoint{}, corrupt("%s: %v", path, err)
	}
	return Bracket{f.Note, f.Tokens}, c, nil
}

// ReadSidecar reads the newest signed checkpoint beside a ledger's file and verifies it. The error is [fs.ErrNotExist] where
// there is none.
func ReadSidecar(ledger string, v note.Verifier) (Signed, error) {
	path := SidecarPath(ledger)
	b, err := readSmall(path)
	if err != nil {
		return Signed{}, err
	}
	c, err := chain.OpenCheckpoint(b, v)
	if err != nil {
		return Signed{}, corrupt("%s: %v", path, err)
	}
	return Signed{c, b}, nil
}

// KeepBracket puts a checkpoint of this ledger that was time-stamped beside the file, durably. One that is older than the kept one is
// passed over.
func (l *Ledger) KeepBracket(b Bracket) error {
	c, err := chain.OpenCheckpoint(b.Note, l.verifier)
	if err != nil {
		return fmt.Errorf("ledger: the time-stamped checkpoint: %w", err)
	}
	if size := l.Size(); c.Size > size {
		return invalid("the time-stamped checkpoint has %d entries, the ledger %d", c.Size, size)
	}
	content, err := json.Marshal(bracketFile{BracketFormat, b.Note, b.Tokens}, json.Deterministic(true))
	if err != nil {
		return invalid("the time-stamped checkpoint: %v", err)
	}
	if len(content) > maxSidecar {
		return fmt.Errorf("%w: tokens of %d bytes", ErrTooLarge, len(content))
	}
	l.sidecar.mu.Lock()
	defer l.sidecar.mu.Unlock()
	if c.Size < l.sidecar.bracket {
		return nil
	}
	l.sidecar.bracket = c.Size
	return replaceFile(BracketPath(l.o.Path), content)
}

// state is how the program left the file.
type state struct {
	clean       bool // it was closed, not killed
	transaction uint64
	bytes       int64
	modified    time.Time // the file's time
	entries     uint64
	root        chain.Hash
	restored    []uint64 // ledger.restored entries
}

type stateFile struct {
	Bytes       string     `json:"bytes"`
	Clean       bool       `json:"clean"`
	Entries     string     `json:"entries"`
	Format      string     `json:"format"`
	Modified    string     `json:"modified"`
	Origin      string     `json:"origin"`
	Restored    []string   `json:"restored"`
	Root        chain.Hash `json:"root"`
	Transaction string     `json:"transaction"`
}

// readState reads the note about how the program left the file.
func readState(ledger, origin string) (state, error) {
	path := StatePath(ledger)
	b, err := readSmall(path)
	if err != nil {
		return state{}, err
	}
	return parseState(path, b, origin)
}

func parseState(path string, b []byte, origin string) (state, error) {
	var f stateFile
	if err := json.Unmarshal(b, &f, json.RejectUnknownMembers(true)); err != nil {
		return state{}, corrupt("%s: %v", path, err)
	}
	if f.Format != StateFormat {
		return state{}, corrupt("%s has the format %.80q, want %q", path, f.Format, StateFormat)
	}
	if f.Origin != origin {
		return state{}, corrupt("%s is about the ledger %.80q, not %q", path, f.Origin, origin)
	}
	s := state{clean: f.Clean, root: f.Root}
	var failed error
	number := func(text string, bits int) uint64 {
		n, err := strconv.ParseUint(text, 10, bits)
		if err == nil && text != strconv.FormatUint(n, 10) {
			err = fmt.Errorf("%q is not how %d is written", text, n)
		}
		failed = errors.Join(failed, err)
		return n
	}
	s.transaction, s.entries, s.bytes = number(f.Transaction, 64), number(f.Entries, 63), int64(number(f.Bytes, 63))
	s.modified = time.Unix(0, int64(number(f.Modified, 63)))
	for _, index := range f.Restored {
		s.restored = append(s.restored, number(index, 63))
	}
	if failed == nil && s.root.IsZero() {
		failed = errors.New("the root is missing")
	}
	if failed != nil {
		return state{}, corrupt("%s: %v", path, failed)
	}
	return s, nil
}

func writeState(ledger, origin string, s state) error {
	content, err := s.encode(origin)
	if err != nil {
		return err
	}
	return replaceFile(StatePath(ledger), content)
}

func (s state) encode(origin string) ([]byte, error) {
	f := stateFile{
		Bytes: strconv.FormatInt(s.bytes, 10), Clean: s.clean, Entries: strconv.FormatUint(s.entries, 10), Format: StateFormat,
		Modified: strconv.FormatInt(max(0, s.modified.UnixNano()), 10), Origin: origin, Restored: []string{}, Root: s.root,
		Transaction: strconv.FormatUint(s.transaction, 10),
	}
	for _, index := range s.restored {
		f.Restored = append(f.Restored, strconv.FormatUint(index, 10))
	}
	content, err := json.Marshal(f, json.Deterministic(true))
	if err != nil {
		return nil, invalid("%s: %v", StateFormat, err)
	}
	return append(content, '\n'), nil
}

// readSmall reads a file of bounded size.
func readSmall(path string) ([]byte, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, err
	} else if err != nil {
		return nil, storeError(err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxSidecar+1))
	if err != nil {
		return nil, storeError(err)
	}
	if len(b) > maxSidecar {
		return nil, corrupt("%s has more than %d bytes", path, maxSidecar)
	}
	return b, nil
}

// replaceFile replaces a file as a whole: after a crash there is the old one or the new one.
func replaceFile(path string, content []byte) error {
	temporary := path + ".new" // the ledger's lock is held: nobody else writes it
	f, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return storeError(err)
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		// Crash point: the new content is there under another name. The next one writes over it.
		failpoint.Hit("ledger.sidecar-written")
		err = os.Rename(temporary, path)
	}
	if err != nil {
		return storeError(errors.Join(err, os.Remove(temporary)))
	}
	return syncFolder(filepath.Dir(path))
}

// syncFolder makes the names in a folder durable.
func syncFolder(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return storeError(err)
	}
	return storeError(errors.Join(dir.Sync(), dir.Close()))
}
