package keystore

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// HMACSHA256 names the one algorithm of a [MACKey] (FIPS 198-1).
const HMACSHA256 = "hmac-sha256"

// A MACKey is what is known of a secret key of 256 random bits that lives in a token and computes HMAC-SHA-256 there. It never leaves it.
type MACKey struct {
	ID ID

	// Check tells the key from every other: what it computes over a text that stands for nothing else, hex. It gives nothing away.
	Check string

	// Attributes are those that the token told when the key was made, by PKCS#11 name: see [Key].
	Attributes map[string]string
}

// A MACer is a [Token] that has secret keys for HMAC-SHA-256, too. Their ids are labels like those of key pairs.
type MACer interface {
	// GenerateMAC makes a key of 256 bits in the device, asks for every attribute of [CheckMACPolicy], makes the key durable, and returns its
	// attributes as read back. It fails with ErrExists if the id is taken. It is not retried.
	GenerateMAC(ctx context.Context, id ID) (map[string]string, error)

	// MACAttributes reads a key's attributes from the device. It fails with ErrNotFound if the device works and has no such key.
	MACAttributes(ctx context.Context, id ID) (map[string]string, error)

	// MAC computes HMAC-SHA-256 over input with the key of that id: 32 bytes, which are not checked.
	MAC(ctx context.Context, id ID, input []byte) ([]byte, error)

	// DestroyMAC removes a key from the device for good. ErrNotFound if there is none.
	DestroyMAC(ctx context.Context, id ID) error
}

// What a key computes over begins with one of these, so that nobody gets a check value by asking for a MAC.
const (
	macMessage = "signet mac v1\x00"
	macCheck   = "signet mac key check v1\x00"
)

// MaxMACInput is the longest input of a MAC, in bytes.
const MaxMACInput = 4096

// CheckMACPolicy is [CheckPolicy] for a MAC key: it can only compute MACs, and not even check them.
func CheckMACPolicy(attributes map[string]string) error {
	wrong := []error{CheckPolicy(attributes)}
	for _, name := range MACPolicyAttributes() {
		if got, known := attributes[name]; !known || got != "false" {
			wrong = append(wrong, fmt.Errorf("%w: %s must be false", ErrPolicy, name))
		}
	}
	return errors.Join(wrong...)
}

// MACPolicyAttributes returns the names of the attributes that [CheckMACPolicy] looks at besides those of [CheckPolicy], sorted.
func MACPolicyAttributes() []string { return []string{"CKA_ENCRYPT", "CKA_VERIFY", "CKA_WRAP"} }

// GenerateMAC makes a MAC key. When it returns without an error the key is durable, kept the policy when it was read back, and has computed its
// check value twice. The caller records the key only after that: see [Store.Generate].
func (s *Store) GenerateMAC(ctx context.Context, id ID) (MACKey, error) {
	fail := func(err error) (MACKey, error) { return MACKey{}, fmt.Errorf("generate MAC key %q: %w", id, err) }
	if err := id.Validate(); err != nil {
		return fail(err)
	}
	attributes, err := s.node.generateMAC(ctx, id)
	if err != nil {
		return fail(err)
	}
	key := MACKey{ID: id, Attributes: maps.Clone(attributes)}
	if err = CheckMACPolicy(attributes); err == nil {
		var check []byte
		if check, err = s.node.checkMAC(ctx, id); err == nil {
			key.Check = hex.EncodeToString(check)
			_, err = s.node.mac(ctx, key, []byte(rand.Text()))
		}
	}
	if err != nil {
		if failed := s.node.destroyMAC(context.WithoutCancel(ctx), id); failed != nil {
			err = errors.Join(err, fmt.Errorf("and it could not be destroyed, do that by hand: %w", failed))
		}
		return fail(err)
	}
	return key, nil
}

// MAC computes HMAC-SHA-256 over input with a key that the caller has recorded. The answer is given out only if the key proves itself at the
// same time: it has the recorded attributes, its check value is the recorded one, and the same input gives the same answer again. Otherwise it
// fails with [ErrWrongSignature] or [ErrPolicy]: a caller who compares MACs never takes a device's fault for a wrong input.
//
// Of replicas those that do not have the key are passed over.
func (s *Store) MAC(ctx context.Context, key MACKey, input []byte) ([]byte, error) {
	if len(input) == 0 || len(input) > MaxMACInput {
		return nil, fmt.Errorf("MAC with key %q: %w: an input has 1 to %d bytes, this one %d", key.ID, ErrInvalid, MaxMACInput, len(input))
	}
	mac, err := s.node.mac(ctx, key, input)
	if err != nil {
		return nil, fmt.Errorf("MAC with key %q: %w", key.ID, err)
	}
	return mac, nil
}

// DestroyMAC removes a MAC key from the token for good.
func (s *Store) DestroyMAC(ctx context.Context, id ID) error {
	if err := id.Validate(); err != nil {
		return err
	}
	if err := s.node.destroyMAC(ctx, id); err != nil {
		return fmt.Errorf("destroy MAC key %q: %w", id, err)
	}
	return nil
}

var errNoMACs = fmt.Errorf("%w: this token has no keys for HMAC-SHA-256", ErrInvalid)

func (g *guard) macer() (MACer, error) {
	if m, ok := g.Token.(MACer); ok {
		return m, nil
	}
	return nil, errNoMACs
}

func (g *guard) generateMAC(ctx context.Context, id ID) (map[string]string, error) {
	m, err := g.macer()
	if err == nil {
		err = g.admitted(ctx)
	}
	if err != nil {
		return nil, err
	}
	return m.GenerateMAC(ctx, id)
}

func (g *guard) hasMAC(ctx context.Context, id ID) (bool, error) {
	m, err := g.macer()
	if err == nil {
		err = g.admitted(ctx)
	}
	if err == nil {
		_, err = m.MACAttributes(ctx, id)
	}
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

func (g *guard) destroyMAC(ctx context.Context, id ID) error {
	m, err := g.macer()
	if err != nil {
		return err
	}
	return m.DestroyMAC(ctx, id)
}

func (g *guard) checkMAC(ctx context.Context, id ID) ([]byte, error) {
	m, err := g.macer()
	if err == nil {
		err = g.admitted(ctx)
	}
	if err != nil {
		return nil, err
	}
	return compute(ctx, m, id, []byte(macCheck))
}

func compute(ctx context.Context, m MACer, id ID, message []byte) ([]byte, error) {
	mac, err := m.MAC(ctx, id, message)
	if err == nil && len(mac) != sha256.Size {
		err = fmt.Errorf("%w: a MAC of %d bytes", ErrWrongSignature, len(mac))
	}
	return mac, err
}

func (g *guard) mac(ctx context.Context, key MACKey, input []byte) ([]byte, error) {
	m, err := g.macer()
	if err == nil {
		err = g.admitted(ctx)
	}
	if err != nil {
		return nil, err
	}
	if err := g.macAttributes(ctx, m, key); err != nil {
		return nil, err
	}
	message := append([]byte(macMessage), input...)
	first, err := compute(ctx, m, key.ID, message)
	if err != nil {
		return nil, err
	}
	check, err := compute(ctx, m, key.ID, []byte(macCheck))
	if err != nil {
		return nil, err
	}
	if want, err := hex.DecodeString(key.Check); err != nil || subtle.ConstantTimeCompare(check, want) != 1 {
		return nil, fmt.Errorf("%w: the MAC key under this id is another one, or the token computes wrongly", ErrWrongSignature)
	}
	second, err := compute(ctx, m, key.ID, message)
	if err != nil {
		return nil, err
	}
	if subtle.ConstantTimeCompare(first, second) != 1 {
		return nil, fmt.Errorf("%w: it computed two MACs over one input", ErrWrongSignature)
	}
	return first, nil
}

// macAttributes holds a key's attributes against the policy and what was recorded, once per epoch.
func (g *guard) macAttributes(ctx context.Context, m MACer, key MACKey) error {
	epoch := g.Epoch()
	g.mu.RLock()
	seen, ok := g.macs[key.ID]
	g.mu.RUnlock()
	if ok && seen == epoch {
		return nil
	}
	attributes, err := m.MACAttributes(ctx, key.ID)
	if err == nil {
		err = CheckMACPolicy(attributes)
	}
	if err == nil {
		err = Drift(key.Attributes, attributes)
	}
	if err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.macs == nil {
		g.macs = make(map[ID]uint64)
	}
	g.macs[key.ID] = epoch
	return nil
}

func (r *route) generateMAC(ctx context.Context, id ID) (map[string]string, error) {
	n, err := r.node(id)
	if err != nil {
		return nil, err
	}
	return n.generateMAC(ctx, id)
}

func (r *route) checkMAC(ctx context.Context, id ID) ([]byte, error) {
	n, err := r.node(id)
	if err != nil {
		return nil, err
	}
	return n.checkMAC(ctx, id)
}

func (r *route) mac(ctx context.Context, key MACKey, input []byte) ([]byte, error) {
	n, err := r.node(key.ID)
	if err != nil {
		return nil, err
	}
	return n.mac(ctx, key, input)
}

func (r *route) destroyMAC(ctx context.Context, id ID) error {
	n, err := r.node(id)
	if err != nil {
		return err
	}
	return n.destroyMAC(ctx, id)
}

// generateMAC makes the key in the device that serves, after all that can be asked have said that they have none of this id. As with key pairs
// it is people, or the devices, who clone it.
func (r *replicas) generateMAC(ctx context.Context, id ID) (map[string]string, error) {
	var maker *member
	failed := make(failedBy, len(r.members))
	for _, i := range r.order() {
		taken := false
		err := r.ask(ctx, r.members[i], true, func(ctx context.Context, m *member) (err error) {
			taken, err = m.hasMAC(ctx, id)
			return err
		})
		switch {
		case taken:
			return nil, fmt.Errorf("%w: on replica %d", ErrExists, i)
		case err != nil:
			failed[i] = err
		case maker == nil:
			maker = r.members[i]
		}
	}
	if maker == nil {
		return nil, failed.err()
	}
	return maker.generateMAC(ctx, id)
}

func (r *replicas) checkMAC(ctx context.Context, id ID) (check []byte, err error) {
	err = r.each(ctx, func(ctx context.Context, m *member, _ bool) (err error) {
		check, err = m.guard.checkMAC(ctx, id)
		return err
	})
	return check, err
}

func (r *replicas) mac(ctx context.Context, key MACKey, input []byte) (mac []byte, err error) {
	err = r.each(ctx, func(ctx context.Context, m *member, _ bool) (err error) {
		mac, err = m.guard.mac(ctx, key, input)
		return err
	})
	return mac, err
}

func (r *replicas) destroyMAC(ctx context.Context, id ID) error {
	failed := make(failedBy, len(r.members))
	for i, m := range r.members {
		failed[i] = m.guard.destroyMAC(ctx, id)
	}
	if err := failed.err(); !errors.Is(err, ErrNotFound) {
		return fmt.Errorf("the key may still be there, repeat this when all replicas are: %w", err)
	}
	if !slices.Contains(failed, nil) {
		return ErrNotFound
	}
	return nil
}

// macUse runs f on the open token.
func (l *lazy) macUse(ctx context.Context, id ID, f func(MACer) error) error {
	if err := id.Validate(); err != nil {
		return err
	}
	return l.use(ctx, func(t Token) error {
		m, ok := t.(MACer)
		if !ok {
			return errNoMACs
		}
		return f(m)
	})
}

// GenerateMAC implements [MACer].
func (l *lazy) GenerateMAC(ctx context.Context, id ID) (attributes map[string]string, err error) {
	err = l.macUse(ctx, id, func(m MACer) (err error) {
		attributes, err = m.GenerateMAC(ctx, id)
		return err
	})
	return attributes, err
}

// MACAttributes implements [MACer].
func (l *lazy) MACAttributes(ctx context.Context, id ID) (attributes map[string]string, err error) {
	err = l.macUse(ctx, id, func(m MACer) (err error) {
		attributes, err = m.MACAttributes(ctx, id)
		return err
	})
	return attributes, err
}

// MAC implements [MACer].
func (l *lazy) MAC(ctx context.Context, id ID, input []byte) (mac []byte, err error) {
	err = l.macUse(ctx, id, func(m MACer) (err error) {
		mac, err = m.MAC(ctx, id, input)
		return err
	})
	return mac, err
}

// DestroyMAC implements [MACer].
func (l *lazy) DestroyMAC(ctx context.Context, id ID) error {
	return l.macUse(ctx, id, func(m MACer) error { return m.DestroyMAC(ctx, id) })
}
