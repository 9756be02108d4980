package chain

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Bounds of a policy.
const (
	// MaxPolicy is the largest size of a policy in bytes.
	MaxPolicy = 64 << 10
	// MaxWitnesses is the largest number of witnesses of a policy, and of groups, logs and members of a group.
	MaxWitnesses = 100
)

// ErrQuorum says that a checkpoint lacks the cosignatures that a policy asks for.
var ErrQuorum = errors.New("the quorum of witnesses is missing")

// Policy says which witnesses must have cosigned a checkpoint: a C2SP tlog-policy. Its text has these lines:
//
//	log <vkey> [<url>]                         the ledger that it is about; any of them, if there are several
//	witness <name> <vkey> [<url>]              a witness, named for this text alone, and where it takes checkpoints
//	group <name> any|all|<k> <member>…         met if so many of its members (witnesses or groups above it) are
//	quorum <name>|none                         what must be met: a witness or group above it, exactly once
//
// Items are parted by spaces and tabs; empty lines and those whose first item begins with # say nothing. A name is defined once and
// is a member of one group at most, once, so that no witness counts twice; and no two logs or witnesses have the same key. "none"
// names nothing. Control characters are refused; the last line may lack its newline.
type Policy struct {
	Logs      []PolicyLog
	Witnesses []PolicyWitness
	Groups    []PolicyGroup
	Quorum    string // the name of a witness or group, or "none"
}

// PolicyLog is a ledger that a policy is about.
type PolicyLog struct {
	VKey string // see [NewVerifier]
	URL  string // as it stands in the text; may be empty
}

// PolicyWitness is a witness of a policy.
type PolicyWitness struct {
	Name string // within the policy
	Key  Cosigner
	URL  string // as it stands in the text; may be empty
}

// PolicyGroup is a group of a policy: it is met if at least Least of its members are.
type PolicyGroup struct {
	Name    string
	Least   int
	Members []string
}

// noQuorum is the quorum that asks for nobody.
const noQuorum = "none"

// policyReader is a policy being read.
type policyReader struct {
	Policy
	defined map[string]bool
	member  map[string]bool
}

// ParsePolicy reads the text of a policy.
func ParsePolicy(text string) (*Policy, error) {
	if len(text) > MaxPolicy {
		return nil, malformed("witness policy: %d bytes; the limit is %d", len(text), MaxPolicy)
	}
	r := policyReader{defined: map[string]bool{noQuorum: true}, member: map[string]bool{noQuorum: true}}
	number := 0
	for line := range strings.SplitSeq(strings.TrimSuffix(text, "\n"), "\n") {
		number++
		for _, c := range []byte(line) {
			if c < 0x20 && c != '\t' || c == 0x7f {
				return nil, malformed("witness policy: line %d has the control character 0x%02x", number, c)
			}
		}
		items := strings.FieldsFunc(line, func(c rune) bool { return c == ' ' || c == '\t' })
		if len(items) == 0 || strings.HasPrefix(items[0], "#") {
			continue
		}
		if err := r.line(items); err != nil {
			return nil, malformed("witness policy: line %d: %v", number, err)
		}
	}
	if r.Quorum == "" {
		return nil, malformed("witness policy: there is no quorum line; \"quorum none\" asks for nobody")
	}
	return &r.Policy, nil
}

func (r *policyReader) line(items []string) error {
	word, items := items[0], items[1:]
	last := func(n int) string { // the optional one
		if len(items) > n {
			return items[n]
		}
		return ""
	}
	switch {
	case word == "log" && (len(items) == 1 || len(items) == 2):
		return r.log(items[0], last(1))
	case word == "witness" && (len(items) == 2 || len(items) == 3):
		return r.witness(items[0], items[1], last(2))
	case word == "group" && len(items) >= 3:
		return r.group(items[0], items[1], items[2:])
	case word == "quorum" && len(items) == 1:
		switch {
		case r.Quorum != "":
			return errors.New("there is a quorum already")
		case !r.defined[items[0]]:
			return fmt.Errorf("the quorum %.80q is no witness or group above it", items[0])
		}
		r.Quorum = items[0]
		return nil
	}
	return fmt.Errorf("%.80q is no log, witness, group or quorum line", strings.Join(append([]string{word}, items...), " "))
}

func (r *policyReader) define(name string) error {
	if r.defined[name] {
		return fmt.Errorf("the name %.80q is taken", name)
	}
	r.defined[name] = true
	return nil
}

func (r *policyReader) log(vkey, url string) error {
	v, err := NewVerifier(vkey)
	if err != nil {
		return err
	}
	key := v.(*verifier).public.(interface{ Equal(x crypto.PublicKey) bool }) // as all keys of the standard library
	for _, o := range r.Logs {
		other, err := PublicKey(o.VKey)
		if err != nil {
			return err
		}
		if key.Equal(other) {
			return fmt.Errorf("the key of the log %.80q is there twice", v.Name())
		}
	}
	if len(r.Logs) == MaxWitnesses {
		return fmt.Errorf("more than %d logs", MaxWitnesses)
	}
	r.Logs = append(r.Logs, PolicyLog{vkey, url})
	return nil
}

func (r *policyReader) witness(name, vkey, url string) error {
	key, err := ParseCosigner(vkey)
	if err != nil {
		return err
	}
	for _, o := range r.Witnesses {
		if bytes.Equal(o.Key.key, key.key) {
			return fmt.Errorf("the key of the witness %.80q is there twice", name)
		}
	}
	if len(r.Witnesses) == MaxWitnesses {
		return fmt.Errorf("more than %d witnesses", MaxWitnesses)
	}
	r.Witnesses = append(r.Witnesses, PolicyWitness{name, key, url})
	return r.define(name)
}

func (r *policyReader) group(name, least string, members []string) error {
	g := PolicyGroup{Name: name, Members: members}
	switch least {
	case "any":
		g.Least = 1
	case "all":
		g.Least = len(members)
	default:
		k, err := strconv.Atoi(least)
		if err != nil || strconv.Itoa(k) != least || k < 1 || k > len(members) {
			return fmt.Errorf("the group %.80q asks for %.80q of %d members", name, least, len(members))
		}
		g.Least = k
	}
	if len(members) > MaxWitnesses || len(r.Groups) == MaxWitnesses {
		return fmt.Errorf("more than %d groups, or members of a group", MaxWitnesses)
	}
	for _, m := range members {
		if !r.defined[m] || r.member[m] {
			return fmt.Errorf("the member %.80q of the group %.80q is no witness or group above it, or a member already", m, name)
		}
		r.member[m] = true
	}
	r.Groups = append(r.Groups, g)
	return r.define(name)
}

// About reports whether the policy is about the ledger of a verifier key: it names that key, or no log at all.
func (p *Policy) About(vkey string) bool {
	for _, l := range p.Logs {
		if l.VKey == vkey {
			return true
		}
	}
	return len(p.Logs) == 0
}

// AsksNobody reports whether every checkpoint meets the policy.
func (p *Policy) AsksNobody() bool { return p.Quorum == noQuorum }

// Check holds the signature lines of a signed checkpoint against the quorum. The error wraps [ErrQuorum], or [ErrMalformed]. Neither the
// signature of the ledger nor whether the policy is about it is looked at.
func (p *Policy) Check(signed []byte) error {
	if p.AsksNobody() {
		return nil
	}
	if _, _, err := splitNote(signed); err != nil {
		return err
	}
	met := map[string]bool{}
	var missing []string
	for _, w := range p.Witnesses {
		if _, _, err := w.Key.Verify(signed); err == nil {
			met[w.Name] = true
		} else {
			missing = append(missing, w.Name)
		}
	}
	for _, g := range p.Groups { // each names only what stands above it
		n := 0
		for _, m := range g.Members {
			if met[m] {
				n++
			}
		}
		met[g.Name] = n >= g.Least
	}
	if !met[p.Quorum] {
		return fmt.Errorf("%w: %q of the policy is not met; no valid cosignature of %q", ErrQuorum, p.Quorum, missing)
	}
	return nil
}
