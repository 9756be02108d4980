package witness

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/signetd/signet/api/chain"
)

// maxDrift is how far the clock may lie behind the last cosignature; within it the last one's time is used again.
const maxDrift = time.Second

// Config is what a witness is made of.
type Config struct {
	Key chain.Cosigner
	// Sign signs with the key: Ed25519. What it returns is verified.
	Sign  func(ctx context.Context, msg []byte) ([]byte, error)
	Logs  []string // the keys of the ledgers that it watches; a ledger may have several
	Path  string   // the file that it remembers in; made if it does not exist
	Clock func() time.Time
	Log   *slog.Logger // nil for none
}

// Witness cosigns checkpoints that continue what it has cosigned before.
type Witness struct {
	c     Config
	log   *slog.Logger
	store *store
	logs  map[string]*watched // by origin
}

// watched is a ledger that the witness watches.
type watched struct {
	origin string
	keys   note.Verifiers
	one    sync.Mutex // one checkpoint at a time
}

// Open opens a witness.
func Open(c Config) (*Witness, error) {
	w := &Witness{c: c, log: c.Log, logs: map[string]*watched{}}
	if w.log == nil {
		w.log = slog.New(slog.DiscardHandler)
	}
	keys := map[string][]note.Verifier{}
	for _, vkey := range c.Logs {
		v, err := chain.NewVerifier(vkey)
		if err != nil {
			return nil, fmt.Errorf("a ledger's key: %w", err)
		}
		keys[v.Name()] = append(keys[v.Name()], v)
	}
	for origin, list := range keys {
		w.logs[origin] = &watched{origin: origin, keys: note.VerifierList(list...)}
	}
	var err error
	w.store, err = openStore(c.Path, c.Key)
	return w, err
}

// Close closes the file that the witness remembers in.
func (w *Witness) Close() error { return w.store.close() }

// Watching is what a witness remembers of a ledger.
type Watching struct {
	Origin  string
	Known   bool      // its key is configured
	Size    uint64    // of the newest cosigned checkpoint; 0 if there is none
	Root    string    // of its tree, hex
	Time    time.Time // of the cosignature; zero if the witness died before it had made it
	Forks   int       // checkpoints of the ledger that contradict what was cosigned; kept as evidence
	Retired int       // states that were given up by hand
}

// List says what the witness remembers of each ledger.
func (w *Witness) List() ([]Watching, error) {
	list, err := w.store.list(w.c.Key)
	if err != nil {
		return nil, err
	}
	have := map[string]bool{}
	for i := range list {
		list[i].Known = w.logs[list[i].Origin] != nil
		have[list[i].Origin] = true
	}
	for origin := range w.logs {
		if !have[origin] {
			list = append(list, Watching{Origin: origin, Known: true})
		}
	}
	return list, nil
}

// Forget gives up what the witness remembers of a ledger, whose newest checkpoint has size entries, so that it may begin again at a
// smaller one: after a sanctioned restore of the ledger alone. The given-up checkpoint is kept as evidence.
func (w *Witness) Forget(origin string, size uint64) error { return w.store.forget(origin, size) }

// refusal is an answer of the protocol other than 200.
type refusal struct {
	code int
	size uint64 // with 409
	text string
}

func (e *refusal) Error() string { return e.text }

func refuse(code int, format string, args ...any) error {
	return &refusal{code: code, text: fmt.Sprintf(format, args...)}
}

// head is a checkpoint as a witness reads it: unlike Signet's own, those of other logs may have more lines.
type head struct {
	origin string
	size   uint64
	root   chain.Hash
	text   string
}

// parseHead reads the text of a checkpoint.
func parseHead(text string) (head, error) {
	lines := strings.Split(text, "\n")
	if len(lines) < 4 || lines[len(lines)-1] != "" {
		return head{}, fmt.Errorf("%w: a checkpoint has at least three lines", errMalformed)
	}
	for _, extension := range lines[3 : len(lines)-1] {
		if extension == "" {
			return head{}, fmt.Errorf("%w: an empty line in the checkpoint", errMalformed)
		}
	}
	c, err := chain.ParseCheckpoint(strings.Join(lines[:3], "\n") + "\n")
	if err != nil && lines[1] == "0" { // of an empty tree with a root of its own
		return head{origin: lines[0], text: text}, nil
	}
	return head{c.Origin, c.Size, c.Root, text}, err
}

// open reads a submitted checkpoint and verifies the signature of its ledger.
func (w *Witness) open(signed []byte) (head, *watched, error) {
	if len(signed) > chain.MaxNote {
		return head{}, nil, refuse(http.StatusBadRequest, "the checkpoint has %d bytes; the limit is %d", len(signed), chain.MaxNote)
	}
	text, _, _ := strings.Cut(string(signed), "\n\n")
	h, err := parseHead(text + "\n")
	if err != nil {
		return head{}, nil, refuse(http.StatusBadRequest, "%v", err)
	}
	l := w.logs[h.origin]
	if l == nil {
		return head{}, nil, refuse(http.StatusNotFound, "the ledger %.300q is not watched", h.origin)
	}
	n, err := note.Open(signed, l.keys)
	var unsigned *note.UnverifiedNoteError
	var wrong *note.InvalidSignatureError
	switch {
	case errors.As(err, &unsigned), errors.As(err, &wrong):
		return head{}, nil, refuse(http.StatusForbidden, "no valid signature of a key of the ledger %.300q", h.origin)
	case err != nil || n.Text != h.text || len(n.Sigs)+len(n.UnverifiedSigs) > chain.MaxSignatures:
		return head{}, nil, refuse(http.StatusBadRequest, "the checkpoint is not a signed note")
	}
	// Only what was verified is kept and shown.
	kept := text + "\n\n"
	for _, s := range n.Sigs {
		kept += "— " + s.Name + " " + s.Base64 + "\n"
	}
	h.text = kept
	return h, l, nil
}

// add is add-checkpoint: it returns the witness's signature line.
func (w *Witness) add(ctx context.Context, body []byte) ([]byte, error) {
	q, err := parseRequest(body)
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "%v", err)
	}
	h, l, err := w.open(q.checkpoint)
	if err != nil {
		return nil, err
	}
	if q.old > h.size {
		return nil, refuse(http.StatusBadRequest, "the old size %d is larger than the checkpoint's %d", q.old, h.size)
	}
	l.one.Lock()
	defer l.one.Unlock()
	at, err := w.remember(q, h)
	if err != nil {
		return nil, err
	}
	// Whoever dies here has remembered a checkpoint that nobody has a cosignature of: it is submitted again, with the same size.
	text, _, _ := strings.Cut(h.text, "\n\n")
	line, err := w.c.Key.Cosign(ctx, text+"\n", at, w.c.Sign)
	if err != nil {
		return nil, fmt.Errorf("cosign: %w", err)
	}
	if err := w.store.put(l.origin, []byte(h.text+string(line))); err != nil { // to be shown
		return nil, err
	}
	w.log.InfoContext(ctx, "cosigned", "ledger", l.origin, "size", h.size, "old", q.old)
	return line, nil
}

// remember holds a checkpoint against the newest one and takes its place, durably. It returns the time for the cosignature. The caller holds
// the ledger's mutex.
func (w *Witness) remember(q request, h head) (time.Time, error) {
	known, last, err := w.store.get(h.origin, w.c.Key)
	if err != nil {
		return time.Time{}, err
	}
	if q.old != known.size {
		return time.Time{}, &refusal{code: http.StatusConflict, size: known.size}
	}
	if h.size == 0 && h.root != chain.EmptyRoot {
		return time.Time{}, refuse(http.StatusUnprocessableEntity, "an empty tree has the root %s", chain.EmptyRoot)
	}
	switch {
	case q.old == 0 && len(q.proof) > 0:
		return time.Time{}, refuse(http.StatusUnprocessableEntity, "a proof from an empty tree is empty")
	case q.old == h.size && known.text != "" && known.root != h.root:
		w.log.Error("the ledger shows two histories: keep both checkpoints as evidence", "ledger", h.origin, "size", h.size, "seen", known.root.String(), "shown", h.root.String())
		if err := w.store.keepFork(h); err != nil {
			return time.Time{}, err
		}
		return time.Time{}, refuse(http.StatusUnprocessableEntity, "the tree of %d entries had the root %s before", h.size, known.root)
	case q.old == h.size && len(q.proof) > 0:
		return time.Time{}, refuse(http.StatusUnprocessableEntity, "a proof from a tree to itself is empty")
	case q.old > 0 && q.old < h.size:
		if err := chain.VerifyConsistency(q.proof, q.old, h.size, known.root, h.root); err != nil {
			return time.Time{}, refuse(http.StatusUnprocessableEntity, "the checkpoint of %d entries is not shown to continue that of %d: %v", h.size, q.old, err)
		}
	}
	at := w.c.Clock()
	if behind := last.Sub(at.Truncate(time.Second)); behind > maxDrift {
		return time.Time{}, fmt.Errorf("the clock is %v behind the last cosignature; set it", behind)
	} else if behind > 0 {
		at = last
	}
	return at, w.store.put(h.origin, []byte(h.text))
}

// requests bounds how many submissions are handled at the same time; more wait.
const requests = 32

// Handler answers the protocol.
func (w *Witness) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+addCheckpoint, w.serveAdd)
	mux.HandleFunc("GET /{origin}/checkpoint", w.serveCheckpoint)
	room := make(chan struct{}, requests)
	return http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		defer func() {
			if p := recover(); p != nil && p != http.ErrAbortHandler {
				w.log.ErrorContext(r.Context(), "panic", "path", r.URL.Path, "value", fmt.Sprint(p), "stack", string(debug.Stack()))
				http.Error(out, "internal error", http.StatusInternalServerError)
			}
		}()
		select {
		case room <- struct{}{}:
			defer func() { <-room }()
		case <-r.Context().Done():
			return
		}
		out.Header().Set("X-Content-Type-Options", "nosniff")
		out.Header().Set("Cache-Control", "no-store")
		mux.ServeHTTP(out, r)
	})
}

func (w *Witness) serveAdd(out http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(out, r.Body, int64(maxRequest)))
	if err != nil {
		http.Error(out, "the request cannot be read, or is too large", http.StatusBadRequest)
		return
	}
	line, err := w.add(r.Context(), body)
	var refused *refusal
	switch {
	case err == nil:
		answer(out, textType, line)
	case errors.As(err, &refused) && refused.code == http.StatusConflict:
		out.Header().Set("Content-Type", sizeType)
		out.WriteHeader(http.StatusConflict)
		_, _ = out.Write([]byte(strconv.FormatUint(refused.size, 10) + "\n"))
	case errors.As(err, &refused):
		w.log.WarnContext(r.Context(), "a checkpoint was refused", "from", r.RemoteAddr, "status", refused.code, "reason", refused.text)
		http.Error(out, refused.text, refused.code)
	default:
		w.log.ErrorContext(r.Context(), "a checkpoint could not be cosigned", "error", err)
		http.Error(out, "the witness cannot sign now; ask again later", http.StatusServiceUnavailable)
	}
}

func (w *Witness) serveCheckpoint(out http.ResponseWriter, r *http.Request) {
	for origin := range w.logs {
		sum := sha256.Sum256([]byte(origin))
		if hex.EncodeToString(sum[:]) != r.PathValue("origin") {
			continue
		}
		cosigned, err := w.store.shown(origin, w.c.Key)
		switch {
		case err != nil:
			w.log.ErrorContext(r.Context(), "what is remembered cannot be read", "error", err)
			http.Error(out, "the witness cannot read what it remembers", http.StatusServiceUnavailable)
			return
		case cosigned != nil:
			answer(out, textType, cosigned)
			return
		}
	}
	http.Error(out, "no checkpoint of such a ledger was cosigned", http.StatusNotFound)
}

func answer(out http.ResponseWriter, kind string, body []byte) {
	out.Header().Set("Content-Type", kind)
	out.Header().Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = out.Write(body) // who is gone has no use for it
}
