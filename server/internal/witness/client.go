package witness

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/server/internal/ledger"
)

// After a failure a witness is asked again after firstRetry, doubled each time up to lastRetry.
const (
	firstRetry = 500 * time.Millisecond
	lastRetry  = time.Minute
)

// maxAnswer bounds what a witness answers.
const maxAnswer = chain.MaxNote

// Errors of one exchange with a witness.
var (
	// ErrAhead says that a witness has seen more entries than it was shown: the ledger was put back, or the witness errs.
	ErrAhead = errors.New("the witness has seen more entries")
	// ErrFork says that a witness has seen another history of the ledger, or errs.
	ErrFork = errors.New("the witness has seen another history of the ledger")
	// ErrRefused says that a witness does not know the ledger or its key.
	ErrRefused = errors.New("the witness refuses the ledger")
	// ErrAnswer says that a witness answered with something else than its cosignature.
	ErrAnswer = errors.New("the witness's answer is not its cosignature")
)

// Options are what a client is made of.
type Options struct {
	Policy   *chain.Policy // its witnesses with a URL are asked
	Verifier note.Verifier // of the ledger's checkpoints
	Timeout  time.Duration // for one exchange
	// Transport carries the exchanges; nil for [http.DefaultTransport].
	Transport http.RoundTripper
	Log       *slog.Logger // nil for none
}

// Client has checkpoints cosigned.
type Client struct {
	o       Options
	http    *http.Client
	log     *slog.Logger
	remotes []*remote
	settled chan struct{} // somebody has answered or failed
}

// remote is a witness, as its client sees it.
type remote struct {
	chain.PolicyWitness
	url  string
	mail chan ledger.Signed // the newest checkpoint to be cosigned

	mu      sync.Mutex
	size    uint64 // of the newest checkpoint that it has cosigned, as far as known
	at      time.Time
	err     error
	settled uint64 // size of the checkpoint that it was asked about last, or was to be
}

// Status is what is known of a witness.
type Status struct {
	Name string    // within the policy
	Key  string    // the name of its key
	URL  string    // where it is asked
	Size uint64    // of the newest checkpoint that it has cosigned
	Time time.Time // when; zero if not since the start
	Err  error     // why the last exchange failed, or nil
}

// NewClient returns a client for the witnesses of a policy that have a URL.
func NewClient(o Options) (*Client, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	c := &Client{o: o, log: o.Log, settled: make(chan struct{}, 1)}
	c.http = &http.Client{
		Transport: o.Transport, Timeout: o.Timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	for _, w := range o.Policy.Witnesses {
		if w.URL == "" {
			continue
		}
		u, err := url.Parse(w.URL)
		if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
			return nil, fmt.Errorf("the witness %q: %q; want an http or https URL below which add-checkpoint is", w.Name, w.URL)
		}
		c.remotes = append(c.remotes, &remote{PolicyWitness: w, url: strings.TrimSuffix(u.String(), "/"), mail: make(chan ledger.Signed, 1)})
	}
	return c, nil
}

// Status says what is known of each witness, in the order of the policy.
func (c *Client) Status() []Status {
	var out []Status
	for _, r := range c.remotes {
		r.mu.Lock()
		out = append(out, Status{Name: strings.ToValidUTF8(r.Name, "\ufffd"), Key: r.Key.Name(), URL: r.url, Size: r.size, Time: r.at, Err: r.err})
		r.mu.Unlock()
	}
	return out
}

// conflictError is the answer 409.
type conflictError struct{ size uint64 }

func (e conflictError) Error() string {
	return fmt.Sprintf("the newest checkpoint that the witness has cosigned has %d entries", e.size)
}

// unfitError is the answer 422, or what stands for it.
type unfitError struct{ text string }

func (e unfitError) Error() string { return "it answers " + e.text }

// submit sends one request about a checkpoint of size entries. It returns the checkpoint with the witness's line added.
func (c *Client) submit(ctx context.Context, r *remote, q request, size uint64) (cosigned []byte, at time.Time, err error) {
	post, err := http.NewRequestWithContext(ctx, http.MethodPost, r.url+addCheckpoint, bytes.NewReader(q.encode()))
	if err != nil {
		return nil, time.Time{}, err
	}
	post.Header.Set("Content-Type", textType)
	reply, err := c.http.Do(post)
	if err != nil {
		return nil, time.Time{}, err
	}
	defer reply.Body.Close()
	body, err := io.ReadAll(io.LimitReader(reply.Body, maxAnswer+1))
	if err != nil {
		return nil, time.Time{}, err
	}
	if len(body) > maxAnswer {
		return nil, time.Time{}, fmt.Errorf("%w: it has more than %d bytes", ErrAnswer, maxAnswer)
	}
	text := fmt.Sprintf("%.200q", strings.TrimSpace(string(body)))
	switch reply.StatusCode {
	case http.StatusOK:
	case http.StatusConflict:
		if len(body) == 0 && q.old == size { // drafts of the protocol had it for another root of the same size
			return nil, time.Time{}, unfitError{reply.Status}
		}
		if kind, _, err := mime.ParseMediaType(reply.Header.Get("Content-Type")); err != nil || kind != sizeType {
			return nil, time.Time{}, fmt.Errorf("%w: it answers 409 as %.80q instead of %s", ErrAnswer, reply.Header.Get("Content-Type"), sizeType)
		}
		newest, err := parseSize(body)
		if err != nil {
			return nil, time.Time{}, fmt.Errorf("%w: %w", ErrAnswer, err)
		}
		return nil, time.Time{}, conflictError{newest}
	case http.StatusUnprocessableEntity:
		return nil, time.Time{}, unfitError{reply.Status + ": " + text}
	case http.StatusNotFound, http.StatusForbidden:
		return nil, time.Time{}, fmt.Errorf("%w: it answers %s: %s", ErrRefused, reply.Status, text)
	default:
		return nil, time.Time{}, fmt.Errorf("it answers %s: %s", reply.Status, text)
	}
	at, line, err := r.Key.Verify(append(bytes.Clone(onlyText(q.checkpoint)), body...))
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("%w: %w", ErrAnswer, err)
	}
	cosigned, err = chain.AddSignatures(q.checkpoint, append(bytes.Clone(onlyText(q.checkpoint)), line...))
	return cosigned, at, err
}

// onlyText is a signed note up to its signature lines.
func onlyText(signed []byte) []byte { return signed[:bytes.LastIndex(signed, []byte("\n\n"))+2] }

// exchange has a checkpoint cosigned: with the size that the witness had last, and again with the one that it says it has.
func (c *Client) exchange(ctx context.Context, r *remote, s ledger.Signed, consistency func(oldSize, newSize uint64) ([]chain.Hash, error)) ([]byte, error) {
	r.mu.Lock()
	old := min(r.size, s.Checkpoint.Size)
	r.mu.Unlock()
	for range 3 { // somebody else may submit checkpoints, too
		q := request{old: old, checkpoint: s.Note}
		if old > 0 && old < s.Checkpoint.Size {
			var err error
			if q.proof, err = consistency(old, s.Checkpoint.Size); err != nil {
				return nil, err
			}
		}
		cosigned, at, err := c.submit(ctx, r, q, s.Checkpoint.Size)
		var conflict conflictError
		var unfit unfitError
		switch {
		case errors.As(err, &conflict):
			if conflict.size == old {
				return nil, fmt.Errorf("%w: it answers 409 with the size that it was given, %d", ErrAnswer, old)
			}
			old = conflict.size
			r.mu.Lock()
			r.size = old
			r.mu.Unlock()
			if old > s.Checkpoint.Size {
				return nil, fmt.Errorf("%w: %d, and the checkpoint has %d", ErrAhead, old, s.Checkpoint.Size)
			}
			continue
		case errors.As(err, &unfit):
			return nil, fmt.Errorf("%w: of its %d entries, the %d of the checkpoint %s are no continuation: %w", ErrFork, old, s.Checkpoint.Size,
				s.Checkpoint.Root, err)
		case err != nil:
			return nil, err
		}
		r.mu.Lock()
		r.size, r.at = s.Checkpoint.Size, at
		r.mu.Unlock()
		return cosigned, nil
	}
	return nil, errors.New("its newest checkpoint is another one each time")
}

// Ledger is what the client needs of a ledger.
type Ledger interface {
	NextHead(ctx context.Context, after uint64) (ledger.Signed, error)
	Cosigned() ledger.Signed
	Cosign(ctx context.Context, signed []byte) error
	ProveConsistency(oldSize, newSize uint64) ([]chain.Hash, error)
}

// Run has the ledger's checkpoints cosigned until ctx ends.
func (c *Client) Run(ctx context.Context, l Ledger) {
	var group sync.WaitGroup
	defer group.Wait()
	if len(c.remotes) == 0 {
		return
	}
	for _, r := range c.remotes {
		group.Go(func() { c.ask(ctx, r, l) })
	}
	for done := uint64(0); ; {
		head, err := l.NextHead(ctx, done)
		if err != nil { // the end
			return
		}
		done = head.Checkpoint.Size
		for _, r := range c.remotes {
			r.send(head)
		}
		for !c.over(l, done) {
			select {
			case <-ctx.Done():
				return
			case <-c.settled:
			}
		}
	}
}

// over reports whether the next checkpoint may have its turn.
func (c *Client) over(l Ledger, size uint64) bool {
	if !c.o.Policy.AsksNobody() && l.Cosigned().Checkpoint.Size >= size {
		return true
	}
	for _, r := range c.remotes {
		r.mu.Lock()
		settled := r.settled >= size
		r.mu.Unlock()
		if !settled {
			return false
		}
	}
	return true
}

// send replaces what a witness is to be asked about next. Only Run sends.
func (r *remote) send(s ledger.Signed) {
	select {
	case <-r.mail:
	default:
	}
	r.mail <- s
}

// settle notes that a checkpoint was cosigned, or not.
func (c *Client) settle(r *remote, s ledger.Signed, err error) {
	r.mu.Lock()
	r.settled = max(r.settled, s.Checkpoint.Size)
	before := r.err
	r.err = err
	r.mu.Unlock()
	switch {
	case err == nil && before != nil:
		c.log.Info("a witness cosigns again", "witness", r.Name, "size", s.Checkpoint.Size)
	case errors.Is(err, ErrFork) || errors.Is(err, ErrAhead):
		if before == nil || before.Error() != err.Error() {
			c.log.Error("a witness speaks against the ledger", "witness", r.Name, "url", r.url, "error", err)
		}
	case err != nil && (before == nil || errors.Is(before, ErrFork) || errors.Is(before, ErrAhead)):
		c.log.Warn("a witness did not cosign; it is asked again", "witness", r.Name, "url", r.url, "error", err)
	}
	select {
	case c.settled <- struct{}{}:
	default:
	}
}

// ask asks one witness about whatever is the newest checkpoint.
func (c *Client) ask(ctx context.Context, r *remote, l Ledger) {
	var s ledger.Signed
	var again time.Time // not before
	retry := firstRetry
	timer := time.NewTimer(0)
	timer.Stop()
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case s = <-r.mail:
		case <-timer.C:
		}
		if time.Now().Before(again) { // it counts as failed until it is asked again
			r.mu.Lock()
			err := r.err
			r.mu.Unlock()
			c.settle(r, s, err)
			continue
		}
		cosigned, err := c.exchange(ctx, r, s, l.ProveConsistency)
		if err == nil {
			err = l.Cosign(ctx, cosigned)
		}
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			again = time.Now().Add(retry)
			timer.Reset(retry)
			retry = min(2*retry, lastRetry)
		} else {
			timer.Stop()
			again, retry = time.Time{}, firstRetry
		}
		c.settle(r, s, err)
	}
}

// Seen is what a witness says of a ledger.
type Seen struct {
	Name string     // of the witness within the policy, and of its key
	Size uint64     // entries that it has seen
	Root chain.Hash // of the tree then; zero where it did not say
	Note []byte     // the checkpoint, signed by the ledger, where it has shown one
	Err  error      // why it said nothing; it wraps [ErrFork] if it has seen another history and does not show which
}

// Latest asks each witness, at the same time, how far it has seen a ledger that stands where s says. Witnesses that have seen less are
// shown the newest checkpoint: so a history that is no continuation of theirs is found.
func (c *Client) Latest(ctx context.Context, s ledger.Standing) []Seen {
	out := make([]Seen, len(c.remotes))
	var group sync.WaitGroup
	for i, r := range c.remotes {
		group.Go(func() {
			out[i] = c.latest(ctx, r, s)
			out[i].Name = r.Name + " (" + r.Key.Name() + ")"
		})
	}
	group.Wait()
	return out
}

func (c *Client) latest(ctx context.Context, r *remote, s ledger.Standing) Seen {
	if s.Head.Note == nil { // nothing to show
		return c.shown(ctx, r, Seen{})
	}
	r.mu.Lock()
	r.size = s.Head.Checkpoint.Size // most likely; else it says so
	r.mu.Unlock()
	_, err := c.exchange(ctx, r, s.Head, s.Consistency)
	r.mu.Lock()
	size := r.size
	r.mu.Unlock()
	switch {
	case err == nil:
		return Seen{Size: s.Head.Checkpoint.Size, Root: s.Head.Checkpoint.Root, Note: s.Head.Note}
	case errors.Is(err, ErrAhead):
		seen := c.shown(ctx, r, Seen{Size: size})
		if seen.Err != nil || seen.Size < size {
			return Seen{Size: size} // that it says so is enough
		}
		return seen
	case errors.Is(err, ErrFork):
		seen := c.shown(ctx, r, Seen{})
		if seen.Err != nil || seen.Note == nil || seen.Size > s.Head.Checkpoint.Size {
			return Seen{Size: size, Err: err}
		}
		return seen
	}
	return Seen{Err: err}
}

// shown reads the newest checkpoint that a witness has cosigned, where it shows it. Without one it returns otherwise.
func (c *Client) shown(ctx context.Context, r *remote, otherwise Seen) Seen {
	origin := sha256.Sum256([]byte(c.o.Verifier.Name()))
	get, err := http.NewRequestWithContext(ctx, http.MethodGet, r.url+"/"+hex.EncodeToString(origin[:])+"/checkpoint", nil)
	if err != nil {
		return Seen{Err: err}
	}
	reply, err := c.http.Do(get)
	if err != nil {
		return Seen{Err: err}
	}
	defer reply.Body.Close()
	switch reply.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound:
		return otherwise
	default:
		return Seen{Err: fmt.Errorf("it answers %s", reply.Status)}
	}
	body, err := io.ReadAll(io.LimitReader(reply.Body, maxAnswer+1))
	if err != nil {
		return Seen{Err: err}
	}
	checkpoint, err := chain.OpenCheckpoint(body, c.o.Verifier)
	if err != nil {
		return Seen{Err: fmt.Errorf("the checkpoint that it shows: %w", err)}
	}
	if _, _, err := r.Key.Verify(body); err != nil {
		return Seen{Err: fmt.Errorf("the checkpoint that it shows: %w", err)}
	}
	return Seen{Size: checkpoint.Size, Root: checkpoint.Root, Note: body}
}
