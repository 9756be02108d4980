package keystore

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
)

// A Rule says which keys live on a token.
type Rule struct {
	// Prefixes are how the ids of its keys begin, "ca-" or "signer-" for example. One rule may have the empty prefix: it
	// gets the keys that no other rule names.
	Prefixes []string

	Token Token // a device, or what Replicas or Lazy returned
}

// Route makes one token of several that hold different keys: the CA's on a device of its own that is only plugged in to
// enrol ([Lazy]), all others on a pair ([Replicas]), say. Exactly one rule names each id: rules that overlap are refused,
// and so is a key that no rule names.
//
// The canary's id belongs to each token: Generate makes one where there is none, but on those that are not plugged in.
func Route(rules ...Rule) (Token, error) {
	r := &route{canary: CanaryID}
	for _, rule := range rules {
		if rule.Token == nil || len(rule.Prefixes) == 0 {
			return nil, fmt.Errorf("%w: a rule names a token and how the ids of its keys begin", ErrInvalid)
		}
		if !reflect.TypeOf(rule.Token).Comparable() {
			return nil, fmt.Errorf("%w: a token of type %T cannot be told from others", ErrInvalid, rule.Token)
		}
		for _, prefix := range rule.Prefixes {
			if prefix != "" && ID(prefix).Validate() != nil {
				return nil, fmt.Errorf("%w: no key id begins with %q", ErrInvalid, prefix)
			}
			for _, other := range r.prefixes {
				if prefix == other || prefix != "" && other != "" && (strings.HasPrefix(prefix, other) || strings.HasPrefix(other, prefix)) {
					return nil, fmt.Errorf("%w: two rules for keys whose ids begin with %q and %q", ErrInvalid, other, prefix)
				}
			}
			r.prefixes = append(r.prefixes, prefix)
			r.to = append(r.to, len(r.nodes))
		}
		if i := slices.Index(r.tokens, rule.Token); i >= 0 {
			for n := range rule.Prefixes {
				r.to[len(r.to)-1-n] = i
			}
			continue
		}
		n := asNode(rule.Token)
		if _, ok := n.(*route); ok {
			return nil, fmt.Errorf("%w: a rule leads to a token, not to more rules", ErrInvalid)
		}
		if g, ok := n.(*guard); ok {
			g.again = true
		}
		r.tokens, r.nodes = append(r.tokens, rule.Token), append(r.nodes, n)
	}
	if len(r.nodes) == 0 {
		return nil, fmt.Errorf("%w: no rule says where keys live", ErrInvalid)
	}
	return r, nil
}

type route struct {
	canary   ID
	prefixes []string
	to       []int // by prefix, the index of its token
	tokens   []Token
	nodes    []node
}

// node returns where a key lives.
func (r *route) node(id ID) (node, error) {
	if id == r.canary { // any will do, of those that are there
		if i := slices.IndexFunc(r.nodes, func(n node) bool { return !seldom(n) }); i >= 0 {
			return r.nodes[i], nil
		}
		return r.nodes[0], nil
	}
	rest := -1
	for i, prefix := range r.prefixes {
		if prefix == "" {
			rest = r.to[i]
		} else if strings.HasPrefix(string(id), prefix) {
			return r.nodes[r.to[i]], nil
		}
	}
	if rest >= 0 {
		return r.nodes[rest], nil
	}
	if err := id.Validate(); err != nil {
		return nil, err
	}
	return nil, fmt.Errorf("%w: no rule says on which token key %q lives; rules are for ids that begin with %q", ErrInvalid, id, r.prefixes)
}

func (r *route) attach(rules *rules) {
	r.canary = rules.canary
	for _, n := range r.nodes {
		n.attach(rules)
	}
}

func (r *route) guards() []*guard {
	var all []*guard
	for _, n := range r.nodes {
		all = append(all, n.guards()...)
	}
	return all
}

func (r *route) sign(ctx context.Context, id ID, a Algorithm, want crypto.PublicKey, input []byte) ([]byte, error) {
	n, err := r.node(id)
	if err != nil {
		return nil, err
	}
	return n.sign(ctx, id, a, want, input)
}

func (r *route) key(ctx context.Context, id ID) (Key, error) {
	n, err := r.node(id)
	if err != nil {
		return Key{}, err
	}
	return n.key(ctx, id)
}

func (r *route) forget(id ID) {
	if n, err := r.node(id); err == nil {
		n.forget(id)
	}
}

// Generate implements [Token].
func (r *route) Generate(ctx context.Context, spec Spec) (Key, error) {
	if err := spec.Validate(); err != nil {
		return Key{}, err
	}
	if spec.ID == r.canary {
		return r.makeCanary(ctx, spec)
	}
	n, err := r.node(spec.ID)
	if err != nil {
		return Key{}, err
	}
	return n.Generate(ctx, spec)
}

func (r *route) makeCanary(ctx context.Context, spec Spec) (Key, error) {
	return makeCanaries(ctx, spec, slices.DeleteFunc(slices.Clone(r.nodes), seldom))
}

// Find implements [Token].
func (r *route) Find(ctx context.Context, id ID) (Key, error) {
	n, err := r.node(id)
	if err != nil {
		return Key{}, err
	}
	return n.Find(ctx, id)
}

// Sign implements [Token].
func (r *route) Sign(ctx context.Context, id ID, a Algorithm, input []byte) ([]byte, error) {
	if err := a.CheckInput(input); err != nil {
		return nil, err
	}
	n, err := r.node(id)
	if err != nil {
		return nil, err
	}
	return n.Sign(ctx, id, a, input)
}

// Destroy implements [Token].
func (r *route) Destroy(ctx context.Context, id ID) error {
	n, err := r.node(id)
	if err != nil {
		return err
	}
	return n.Destroy(ctx, id)
}

// Epoch implements [Token].
func (r *route) Epoch() (sum uint64) {
	for _, n := range r.nodes {
		sum += n.Epoch()
	}
	return sum
}

// Close implements [Token].
func (r *route) Close() error {
	return r.all(func(n node) error { return n.Close() })
}

// all does something with each token, side by side.
func (r *route) all(do func(n node) error) error {
	failed := make([]error, len(r.nodes))
	var all sync.WaitGroup
	for i, n := range r.nodes {
		all.Go(func() { failed[i] = do(n) })
	}
	all.Wait()
	return errors.Join(failed...)
}

func (r *route) health(ctx context.Context) error {
	return r.all(func(n node) error { return n.health(ctx) })
}

func (r *route) ready() error {
	return r.all(func(n node) error { return n.ready() })
}

func (r *route) selfTest(ctx context.Context) ([]string, error) {
	var names []string
	var failed []error
	for i, n := range r.nodes {
		ran, err := n.selfTest(ctx)
		for _, name := range ran {
			if len(r.nodes) > 1 {
				name = fmt.Sprintf("token %d: %s", i, name)
			}
			names = append(names, name)
		}
		failed = append(failed, err)
	}
	return names, errors.Join(failed...)
}

// Status implements [Reporter].
func (r *route) Status() []Status { return statusOf(r) }

// KnownAnswers implements [KnownAnswerTester].
func (r *route) KnownAnswers(ctx context.Context) ([]string, error) { return r.selfTest(ctx) }
