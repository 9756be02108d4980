package keystore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// compared is what is known of the copies of each key on the tokens of a [replicas]. A goroutine of its own asks the tokens
// that do not serve, so that no signature waits for them.
type compared struct {
	members []*member
	canary  ID

	odd atomic.Int64 // keys with a copy that is missing or does not keep the policy

	mu      sync.Mutex
	keys    map[ID]*copies
	differs []int    // how many keys each token has that are others on the rest
	which   []ID     // one of them
	epochs  []uint64 // of each token, in which its copies were compared
	pending map[ID]bool
	working bool
	again   time.Time // when what is missing or bad is looked for again
	cancel  context.CancelFunc
	ctx     context.Context
	workers sync.WaitGroup
}

// copies are those of one key, by token.
type copies struct {
	enrolled string   // id of the public key, if a signature has shown which it is
	has      []string // id of its public key; "" if the token was not asked in this epoch, none if it has no such key
	bad      []error  // why it does not keep the policy
}

const (
	none         = "none"
	compareLimit = 10 * time.Second
	compareAgain = time.Minute
	compareBatch = 64 // what is looked for again at one time
)

func (c *compared) begin(members []*member) {
	c.members, c.canary = members, CanaryID
	c.keys, c.pending = make(map[ID]*copies), make(map[ID]bool)
	c.differs, c.which = make([]int, len(members)), make([]ID, len(members))
	for _, m := range members {
		c.epochs = append(c.epochs, m.Epoch())
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
}

func (c *compared) end() {
	c.cancel()
	c.workers.Wait()
}

// update changes what is known of one key, and draws the consequences: which tokens are refused, what they miss.
// Called with the lock held.
func (c *compared) update(id ID, change func(*copies)) {
	k := c.keys[id]
	if k == nil {
		k = &copies{has: make([]string, len(c.members)), bad: make([]error, len(c.members))}
		c.keys[id] = k
	}
	c.count(id, k, -1)
	change(k)
	c.count(id, k, 1)
	for i, m := range c.members {
		switch n := c.differs[i]; {
		case n > 0:
			m.refuse(byComparison, fmt.Errorf("%w: it has another key %q than the other replicas, so it is none of them",
				ErrWrongSignature, c.which[i]), time.Time{})
		default:
			_ = m.acquit(byComparison)
		}
	}
}

// count adds a key to the sums, or takes it out of them.
func (c *compared) count(id ID, k *copies, n int) {
	if k.odd() {
		c.odd.Add(int64(n))
	}
	for i, has := range k.has {
		switch {
		case has == none:
			c.members[i].missing.Add(int64(n))
		case k.differs(i):
			c.differs[i] += n
			c.which[i] = id
		}
	}
}

func (k *copies) odd() bool {
	return slices.Contains(k.has, none) || slices.ContainsFunc(k.bad, func(err error) bool { return err != nil })
}

// right is the public key that the copies should have: the enrolled one, or that of the first token that has it.
func (k *copies) right() string {
	if k.enrolled != "" {
		return k.enrolled
	}
	for _, has := range k.has {
		if has != "" && has != none {
			return has
		}
	}
	return ""
}

// differs reports whether a token has another key than it should.
func (k *copies) differs(i int) bool {
	return k.has[i] != "" && k.has[i] != none && k.has[i] != k.right()
}

// learn is told what a token has under an id.
func (c *compared) learn(replica int, key Key) {
	if key.ID == c.canary {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.update(key.ID, func(k *copies) {
		k.has[replica], k.bad[replica] = key.KeyID, nil
		if slices.Contains(k.has, "") {
			c.compare(key.ID)
		}
	})
}

// lacks is told that a token does not have a key. What no token has is of no interest.
func (c *compared) lacks(replica int, id ID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.keys[id] != nil {
		c.update(id, func(k *copies) { k.has[replica], k.bad[replica] = none, nil })
	}
}

// suspect is told that a token's copy of a key does not keep the policy.
func (c *compared) suspect(replica int, id ID, err error) {
	if id == c.canary {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.update(id, func(k *copies) { k.bad[replica] = fmt.Errorf("on replica %d: %w", replica, err) })
}

// enrolled is told which public key a caller enrolled, once a token showed another one.
func (c *compared) enrolled(id ID, keyID string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.update(id, func(k *copies) { k.enrolled = keyID })
}

// holds is told which public key a caller enrolled, once a token showed another one. It counts if this token is known to have it.
func (c *compared) holds(replica int, id ID, keyID string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if k := c.keys[id]; k != nil && k.has[replica] == keyID && k.enrolled != keyID {
		c.update(id, func(k *copies) { k.enrolled = keyID })
	}
}

func (c *compared) destroyed(id ID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.keys[id] != nil {
		c.update(id, func(k *copies) { *k = copies{has: make([]string, len(k.has)), bad: make([]error, len(k.bad))} })
		delete(c.keys, id)
		delete(c.pending, id)
	}
}

// refuses says whether a key must not be used on a token because another one's copy of it does not keep the policy, or that the
// token did not have it when it was last asked.
func (c *compared) refuses(replica int, id ID) error {
	if c.odd.Load() == 0 {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	k := c.keys[id]
	if k == nil {
		return nil
	}
	for i, err := range k.bad {
		if i != replica && err != nil {
			return err
		}
	}
	if k.has[replica] == none {
		return errLacked
	}
	return nil
}

// errLacked: the token did not have the key when it was last asked.
var errLacked = fmt.Errorf("%w: it was not cloned yet", ErrNotFound)

// refresh looks again at tokens that began an epoch, and now and then at what is missing or bad.
func (c *compared) refresh() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, m := range c.members {
		if epoch := m.Epoch(); epoch != c.epochs[i] {
			c.epochs[i] = epoch
			for id, k := range c.keys {
				if !k.differs(i) { // one that does is not used until it was looked at again
					c.update(id, func(k *copies) { k.has[i] = "" })
				}
				c.compare(id)
			}
		}
	}
	now := time.Now()
	if now.Before(c.again) {
		return
	}
	c.again = now.Add(compareAgain)
	n := 0
	for id, k := range c.keys {
		if n == compareBatch {
			break
		}
		if k.odd() || slices.Contains(k.has, "") {
			n++
			c.compare(id)
		}
	}
}

// compare puts a key on the list, and starts who works it off. Called with the lock held.
func (c *compared) compare(id ID) {
	c.pending[id] = true
	if c.working || c.ctx.Err() != nil {
		return
	}
	c.working = true
	c.workers.Go(c.work)
}

func (c *compared) work() {
	for {
		c.mu.Lock()
		var id ID
		for id = range c.pending {
			break
		}
		if id == "" || c.ctx.Err() != nil {
			c.working = false
			c.mu.Unlock()
			return
		}
		delete(c.pending, id)
		var ask []int
		if k := c.keys[id]; k != nil {
			for i := range k.has {
				if k.has[i] == "" || k.has[i] == none || k.bad[i] != nil || k.differs(i) {
					ask = append(ask, i)
				}
			}
		}
		c.mu.Unlock()
		for _, i := range ask {
			c.look(i, id)
		}
	}
}

// look asks one token for its copy of a key. A token that cannot be asked is asked again later.
func (c *compared) look(replica int, id ID) {
	ctx, cancel := context.WithTimeout(c.ctx, compareLimit)
	defer cancel()
	m := c.members[replica]
	m.forget(id)
	_, err := m.guard.key(ctx, id) // which learns
	switch {
	case errors.Is(err, ErrPolicy):
		c.suspect(replica, id, err)
	case errors.Is(err, ErrNotFound):
		c.lacks(replica, id)
	}
}

// A MissingKey is a key that one of several replicas does not have: it was not cloned yet.
type MissingKey struct {
	ID      ID
	Token   string // label
	Replica int
}

func (c *compared) missing() []MissingKey {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []MissingKey
	for id, k := range c.keys {
		for i, has := range k.has {
			if has == none {
				all = append(all, MissingKey{id, c.members[i].Status()[0].Token, i})
			}
		}
	}
	slices.SortFunc(all, func(a, b MissingKey) int {
		if a.Replica != b.Replica {
			return a.Replica - b.Replica
		}
		return strings.Compare(string(a.ID), string(b.ID))
	})
	return all
}
