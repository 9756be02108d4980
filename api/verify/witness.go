package verify

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/signetd/signet/api/manifest"
)

// Bounds of a witness policy.
const (
	maxWitnesses = 100
	maxMembers   = 100
)

// cosignatureV1 is the key type of Ed25519 cosignatures (C2SP tlog-cosignature).
const cosignatureV1 = 0x04

// witnessPolicy is a C2SP tlog-policy: lines "log <vkey> [<url>]", "witness <name> <vkey> [<url>]", "group <name>
// <any|all|k> <member>…" and exactly one "quorum <name|none>"; empty lines and those that begin with # are ignored.
type witnessPolicy struct {
	logs      []string
	witnesses map[string]witness
	groups    map[string]group
	quorum    string
}

type witness struct {
	name string // of the key, as in signature lines
	hash uint32
	key  ed25519.PublicKey
}

type group struct {
	least   int
	members []string
}

func parseWitnessPolicy(text string) (witnessPolicy, error) {
	p := witnessPolicy{witnesses: map[string]witness{}, groups: map[string]group{}}
	number := 0
	for line := range strings.Lines(text) {
		number++
		fields := strings.Fields(line)
		if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		if err := p.line(fields); err != nil {
			return p, fmt.Errorf("line %d: %w", number, err)
		}
	}
	if p.quorum == "" {
		return p, errors.New("no quorum")
	}
	return p, nil
}

// known reports whether a name is taken.
func (p *witnessPolicy) known(name string) bool {
	_, w := p.witnesses[name]
	_, g := p.groups[name]
	return w || g || name == "none"
}

func (p *witnessPolicy) line(f []string) error {
	switch {
	case f[0] == "log" && (len(f) == 2 || len(f) == 3):
		p.logs = append(p.logs, f[1])
	case f[0] == "witness" && (len(f) == 3 || len(f) == 4):
		w, err := parseWitness(f[2])
		if err != nil {
			return err
		}
		for _, o := range p.witnesses {
			if bytes.Equal(o.key, w.key) {
				return fmt.Errorf("the key of the witness %q is there twice", f[1])
			}
		}
		if p.known(f[1]) || len(p.witnesses) == maxWitnesses {
			return fmt.Errorf("the name %q is taken, or there are more than %d witnesses", f[1], maxWitnesses)
		}
		p.witnesses[f[1]] = w
	case f[0] == "group" && len(f) >= 4 && len(f) <= 3+maxMembers:
		g := group{members: f[3:]}
		switch f[2] {
		case "any":
			g.least = 1
		case "all":
			g.least = len(g.members)
		default:
			n, err := strconv.Atoi(f[2])
			if err != nil || strconv.Itoa(n) != f[2] || n < 1 || n > len(g.members) {
				return fmt.Errorf("the group %q asks for %q of %d members", f[1], f[2], len(g.members))
			}
			g.least = n
		}
		seen := map[string]bool{}
		for _, m := range g.members {
			if !p.known(m) || m == "none" || seen[m] {
				return fmt.Errorf("the member %q of the group %q is unknown or there twice", m, f[1])
			}
			seen[m] = true
		}
		if p.known(f[1]) || len(p.groups) == maxWitnesses {
			return fmt.Errorf("the name %q is taken, or there are more than %d groups", f[1], maxWitnesses)
		}
		p.groups[f[1]] = g
	case f[0] == "quorum" && len(f) == 2 && p.quorum == "" && p.known(f[1]):
		p.quorum = f[1]
	default:
		return fmt.Errorf("%.80q is no log, witness, group or quorum, or its quorum is unknown or the second one",
			strings.Join(f, " "))
	}
	return nil
}

// parseWitness reads the verifier key of a witness.
func parseWitness(vkey string) (witness, error) {
	name, rest, _ := strings.Cut(vkey, "+")
	hash, encoded, ok := strings.Cut(rest, "+")
	raw, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if !ok || err != nil || len(raw) != 1+ed25519.PublicKeySize || raw[0] != cosignatureV1 || name == "" {
		return witness{}, fmt.Errorf("%.200q is not the key of a witness (name+hash+key, Ed25519 cosignature/v1)", vkey)
	}
	sum := sha256.Sum256(append([]byte(name+"\n"), raw...))
	w := witness{name: name, hash: binary.BigEndian.Uint32(sum[:]), key: ed25519.PublicKey(raw[1:])}
	if want := fmt.Sprintf("%08x", w.hash); hash != want {
		return witness{}, fmt.Errorf("the hash of the witness key %.80q is %q, not %q", name, want, hash)
	}
	return w, nil
}

// check holds a signed checkpoint against the policy.
func (p witnessPolicy) check(l manifest.TrustLedger, signed []byte) error {
	if len(p.logs) > 0 {
		known := false
		for _, vkey := range p.logs {
			known = known || vkey == l.VKey
		}
		if !known {
			return fmt.Errorf("the pinned witness policy is not about the key of the ledger %q", l.Origin)
		}
	}
	if p.quorum == "none" {
		return nil
	}
	text, lines := noteLines(signed)
	present := map[string]bool{}
	for name, w := range p.witnesses {
		present[name] = w.cosigned(text, lines)
	}
	if !p.met(p.quorum, present) {
		return fmt.Errorf("the quorum of witnesses is missing: %q of the pinned policy is not met", p.quorum)
	}
	return nil
}

// met reports whether a witness has cosigned, or a group has enough members that have. Groups name only what stands
// before them, so this ends.
func (p witnessPolicy) met(name string, present map[string]bool) bool {
	g, ok := p.groups[name]
	if !ok {
		return present[name]
	}
	n := 0
	for _, m := range g.members {
		if ok, known := present[m]; known && ok || !known && p.met(m, present) {
			n++
		}
	}
	present[name] = n >= g.least // so that each group is judged once
	return n >= g.least
}

// cosigned reports whether one of the lines is the witness's cosignature of the text.
func (w witness) cosigned(text []byte, lines []string) bool {
	for _, line := range lines {
		encoded, ok := strings.CutPrefix(line, "— "+w.name+" ")
		raw, err := base64.StdEncoding.Strict().DecodeString(encoded)
		if !ok || err != nil || len(raw) != 4+8+ed25519.SignatureSize || binary.BigEndian.Uint32(raw) != w.hash {
			continue
		}
		at := binary.BigEndian.Uint64(raw[4:])
		message := fmt.Appendf(nil, "cosignature/v1\ntime %d\n%s", at, text)
		if at <= 1<<62 && ed25519.Verify(w.key, message, raw[12:]) {
			return true
		}
	}
	return false
}
