package index

import (
	"bytes"
	"encoding/json/jsontext"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/signetd/signet/api/chain"
)

func TestKeys(t *testing.T) {
	long := repeat("x", MaxValue)
	for name, test := range map[string]struct {
		entry chain.Entry
		want  []Key
	}{
		"type and actor": {chain.Entry{Type: chain.KeyCreated, Actor: chain.Actor{ID: "keys"}, Body: jsontext.Value(`{}`)}, []Key{"actor:keys", "type:key.created"}},
		"session, event, subjects": {
			chain.Entry{Type: chain.SignatureCreated, Actor: chain.Actor{ID: "sgn_1", Session: "s"}, Body: jsontext.Value(`{"event":"e","keyId":"k","signer":"sgn_1"}`)},
			[]Key{"actor:sgn_1", "event:e", "session:s", "subject:k", "subject:sgn_1", "type:signature.created"},
		},
		"session of the body": {chain.Entry{Type: chain.SessionClosed, Actor: chain.Actor{ID: "sessions"}, Body: jsontext.Value(`{"id":"sgn_1","session":"s"}`)},
			[]Key{"actor:sessions", "session:s", "subject:sgn_1", "type:session.closed"}},
		"however deep": {chain.Entry{Type: chain.LedgerRestored, Actor: chain.Actor{ID: "restore"}, Body: jsontext.Value(`{"administrators":[{"id":"sgn_1"},{"id":"sgn_2"}],"x":{"y":{"event":"e"}}}`)},
			[]Key{"actor:restore", "event:e", "subject:sgn_1", "subject:sgn_2", "type:ledger.restored"}},
		"not of arrays, of other members, of other values": {
			chain.Entry{Type: chain.KeyCreated, Actor: chain.Actor{ID: "a"}, Body: jsontext.Value(`{"event":["e"],"id":1,"name":"id","record":null,"signer":{"a":"b"},"text":"\"id\":\"no\""}`)},
			[]Key{"actor:a", "type:key.created"},
		},
		"empty and too long": {chain.Entry{Type: chain.KeyCreated, Actor: chain.Actor{ID: "a"}, Body: jsontext.Value(`{"event":"","id":"` + long + `y","record":"` + long + `"}`)},
			[]Key{"actor:a", Key("subject:" + long), "type:key.created"}},
		"escapes": {chain.Entry{Type: chain.KeyCreated, Actor: chain.Actor{ID: "a"}, Body: jsontext.Value(`{"i\"d":"no","id":"a\"b\\\u0001é"}`)},
			[]Key{"actor:a", "subject:a\"b\\\x01é", "type:key.created"}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := Keys(test.entry); !slices.Equal(got, test.want) {
				t.Errorf("%q, want %q", got, test.want)
			}
		})
	}
}

func TestKeyValidate(t *testing.T) {
	for _, k := range []Key{"", "type", "type:", "other:x", Key("event:" + repeat("x", MaxValue+1)), "event:\xff"} {
		if err := k.Validate(); !errors.Is(err, ErrMalformed) {
			t.Errorf("%q: %v", k, err)
		}
	}
	k, err := NewKey(Subject, "a:b")
	if err != nil || k.Kind() != Subject || k.Value() != "a:b" {
		t.Errorf("%q %q %q: %v", k, k.Kind(), k.Value(), err)
	}
}

// FuzzKeys compares the reader of members with a walk over the tokens.
func FuzzKeys(f *testing.F) {
	f.Add([]byte(`{"a":[{"id":"x"},"id"],"event":"e\"","id":"","z":{"id":"\u0001"}}`))
	f.Add([]byte(`{"event":"a","event`))
	f.Fuzz(func(t *testing.T, b []byte) {
		got := Keys(chain.Entry{Type: chain.KeyCreated, Actor: chain.Actor{ID: "a"}, Body: b}) // anything goes
		canonical, err := chain.MarshalBody(jsontext.Value(b))
		if err != nil || !bytes.Equal(canonical, b) {
			return
		}
		want := []Key{"actor:a", "type:key.created"}
		d := jsontext.NewDecoder(bytes.NewReader(b))
		name := ""
		for {
			token, err := d.ReadToken()
			if err != nil {
				break
			}
			kind, n := d.StackIndex(d.StackDepth())
			switch {
			case token.Kind() != '"' || kind != '{':
			case n%2 == 1:
				name = token.String()
			default:
				if k, ok := members[name]; ok && token.String() != "" && len(token.String()) <= MaxValue {
					want = append(want, Key(string(k)+":"+token.String()))
				}
			}
		}
		slices.Sort(want)
		if want = slices.Compact(want); !slices.Equal(got, want) {
			t.Fatalf("%q, want %q", got, want)
		}
	})
}

// mapOf makes a map of leaves.
func mapOf(t testing.TB, pages *scratch, leaves []Leaf) Map {
	t.Helper()
	root, err := updater{put: pages.put}.build(PageID{}, leaves)
	if err != nil {
		t.Fatal(err)
	}
	return Map{root}
}

// TestMap compares the map with its definition, and proves every key and some that it does not have.
func TestMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		shared := rapid.IntRange(0, 250).Draw(t, "shared bits") // keys that share their first bits make deep trees
		random := func() (h chain.Hash) {
			for i := range h {
				h[i] = byte(r.Uint32())
			}
			return h
		}
		key := func() chain.Hash {
			h := random()
			if r.IntN(2) == 0 {
				for i := range shared {
					h[i/8] &^= 0x80 >> (i % 8)
				}
			}
			return h
		}
		pages := &scratch{dir: "/nonexistent"}
		var m Map
		var keys []chain.Hash
		all := map[chain.Hash]List{}
		next := uint64(0)
		for range rapid.IntRange(0, 6).Draw(t, "updates") {
			var c Changes
			for range r.IntN(60) {
				leaf, mine := random(), map[chain.Hash]bool{}
				for range 1 + r.IntN(8) {
					k := key()
					if len(keys) > 0 && r.IntN(3) == 0 {
						k = keys[r.IntN(len(keys))]
					}
					mine[k] = true
				}
				for k := range mine {
					if _, ok := all[k]; !ok {
						keys = append(keys, k)
					}
					all[k] = all[k].Append(next, leaf)
				}
				c.Add(next, leaf, slices.Collect(maps.Keys(mine)))
				next++
			}
			var err error
			if m, err = m.Update(held{pages}, &c, pages.put); err != nil {
				t.Fatal(err)
			}
			err = c.Each(func(k chain.Hash, entries []uint64, count uint64) error {
				if count != all[k].Count || !slices.IsSorted(entries) || uint64(len(entries)) > count {
					t.Fatalf("%s: %v of %d, want %d", k, entries, count, all[k].Count)
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			var leaves []Leaf
			for k, l := range all {
				leaves = append(leaves, Leaf{k, l})
			}
			if m.Root() != plainRoot(leaves, 0) || m.Len() != uint64(len(all)) {
				t.Fatalf("root %s of %d keys, want %s of %d", m.Root(), m.Len(), plainRoot(leaves, 0), len(all))
			}
		}
		again, err := Load(func(yield func(PageID, []byte) error) error {
			for id, page := range pages.memory {
				if err := yield(id, page); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil || again.Root() != m.Root() || again.Len() != m.Len() {
			t.Fatalf("loaded: root %s of %d keys: %v", again.Root(), again.Len(), err)
		}
		probe := func(k chain.Hash) {
			list, err := m.Get(held{pages}, k)
			if err != nil || list != all[k] {
				t.Fatalf("%s: %v, want %v: %v", k, list, all[k], err)
			}
			p, err := m.Prove(held{pages}, k)
			if err != nil {
				t.Fatal(err)
			}
			if list, err = p.Verify(m.Root(), k); err != nil || list != all[k] {
				t.Fatalf("%s: proved %v, want %v: %v", k, list, all[k], err)
			}
		}
		for _, k := range keys {
			probe(k)
		}
		for range 50 {
			probe(key())
		}
	})
}

// held is pages that others can write too, so that each is held against the root.
type held struct{ *scratch }

// TestMapProofRefuses changes a proof in every way and expects that nothing else is proved.
func TestMapProofRefuses(t *testing.T) {
	t.Attr("requirement", "B-47")
	pages := &scratch{}
	var leaves []Leaf
	for i := range 500 {
		leaves = append(leaves, Leaf{Key("event:" + repeat("x", i%200+1) + string(rune('a'+i%26))).Hash(), List{uint64(i + 1), chain.Hash{byte(i)}}})
	}
	slices.SortFunc(leaves, func(a, b Leaf) int { return bytes.Compare(a.Key[:], b.Key[:]) })
	leaves = slices.CompactFunc(leaves, func(a, b Leaf) bool { return a.Key == b.Key })
	m := mapOf(t, pages, leaves)
	has, hasNot := leaves[17], Key("event:nobody's").Hash()
	member, err := m.Prove(pages, has.Key)
	if err != nil {
		t.Fatal(err)
	}
	absent, err := m.Prove(pages, hasNot)
	if err != nil {
		t.Fatal(err)
	}
	refuses := func(name string, p MapProof, key chain.Hash, want List) {
		t.Run(name, func(t *testing.T) {
			if got, err := p.Verify(m.Root(), key); err == nil && got != want {
				t.Errorf("proves %v", got)
			} else if err != nil && !errors.Is(err, ErrProof) {
				t.Errorf("%v", err)
			} else if err == nil && name != "unchanged" {
				t.Errorf("proves %v", got)
			}
		})
	}
	refuses("unchanged", member, has.Key, has.List)
	change := func(p MapProof, fn func(p *MapProof)) MapProof {
		p.Siblings = clone(p.Siblings)
		if p.Leaf != nil {
			leaf := *p.Leaf
			p.Leaf = &leaf
		}
		fn(&p)
		return p
	}
	refuses("a member is said to be absent", MapProof{Siblings: member.Siblings}, has.Key, List{})
	refuses("a member is said to be absent by another's leaf", absent, has.Key, List{})
	refuses("an absent one is said to be there", change(absent, func(p *MapProof) { p.Leaf = &Leaf{hasNot, List{1, chain.Hash{}}} }), hasNot, List{1, chain.Hash{}})
	refuses("another count", change(member, func(p *MapProof) { p.Leaf.Count++ }), has.Key, List{})
	refuses("no count", change(member, func(p *MapProof) { p.Leaf.Count = 0 }), has.Key, List{})
	refuses("another list", change(member, func(p *MapProof) { p.Leaf.Hash[3] ^= 1 }), has.Key, List{})
	refuses("no siblings", change(member, func(p *MapProof) { p.Siblings = nil }), has.Key, List{})
	refuses("one sibling less", change(member, func(p *MapProof) { p.Siblings = p.Siblings[1:] }), has.Key, List{})
	refuses("one sibling more", change(member, func(p *MapProof) { p.Siblings = append(p.Siblings, chain.Hash{1}) }), has.Key, List{})
	refuses("an empty sibling more", change(member, func(p *MapProof) { p.Siblings = append(p.Siblings, chain.Hash{}) }), has.Key, List{})
	refuses("too many siblings", change(member, func(p *MapProof) { p.Siblings = make([]chain.Hash, 257) }), has.Key, List{})
	t.Run("a tree with a leaf on the wrong side", func(t *testing.T) {
		misplaced := Leaf{chain.Hash{0x80}, List{1, chain.Hash{}}}
		wrong := MapProof{Siblings: []chain.Hash{{1}}, Leaf: &misplaced}
		if list, err := wrong.Verify(nodeHash(misplaced.hash(), chain.Hash{1}), chain.Hash{0x01}); !errors.Is(err, ErrProof) {
			t.Errorf("%v %v", list, err)
		}
	})
	t.Run("a tree that goes deeper than it must", func(t *testing.T) {
		deep := MapProof{Siblings: []chain.Hash{{}}, Leaf: &has}
		root := nodeHash(has.hash(), chain.Hash{})
		if bit(&has.Key, 0) == 1 {
			root = nodeHash(chain.Hash{}, has.hash())
		}
		if list, err := deep.Verify(root, has.Key); !errors.Is(err, ErrProof) {
			t.Errorf("%v %v", list, err)
		}
	})
	for i := range member.Siblings {
		refuses("a changed sibling", change(member, func(p *MapProof) { p.Siblings[i][31] ^= 0x80 }), has.Key, List{})
	}
}

func TestMapPagesAreHeldAgainstTheRoot(t *testing.T) {
	pages := &scratch{}
	var leaves []Leaf
	for i := range 300 {
		leaves = append(leaves, Leaf{Key("event:" + string(rune('a'+i%26)) + repeat("y", i%100+1)).Hash(), List{uint64(i + 1), chain.Hash{byte(i)}}})
	}
	slices.SortFunc(leaves, func(a, b Leaf) int { return bytes.Compare(a.Key[:], b.Key[:]) })
	leaves = slices.CompactFunc(leaves, func(a, b Leaf) bool { return a.Key == b.Key })
	m := mapOf(t, pages, leaves)
	for id, page := range pages.memory {
		page[len(page)-1] ^= 1
		key := chain.Hash(page[:32])
		var c Changes
		c.Add(1, chain.Hash{}, []chain.Hash{key})
		_, getErr := m.Get(held{pages}, key)
		_, proveErr := m.Prove(held{pages}, key)
		_, updateErr := m.Update(held{pages}, &c, pages.put)
		page[len(page)-1] ^= 1
		for _, err := range []error{getErr, proveErr, updateErr} {
			if !errors.Is(err, ErrPage) {
				t.Fatalf("page %v: %v", id, err)
			}
		}
		delete(pages.memory, id)
		if _, err := m.Get(pages, key); !errors.Is(err, ErrPage) {
			t.Fatalf("page %v is gone: %v", id, err)
		}
		pages.memory[id] = page
	}
}

func TestLoadRefuses(t *testing.T) {
	leaf := func(first byte) Leaf { return Leaf{chain.Hash{first}, List{1, chain.Hash{}}} }
	many := make([]Leaf, pageLeaves)
	for i := range many {
		many[i] = leaf(byte(i))
	}
	for name, pages := range map[string]map[PageID][]byte{
		"a key of another page":     {PageID{Bits: 1, Prefix: chain.Hash{0x80}}: encodePage([]Leaf{leaf(0x10)})},
		"more bits than a hash":     {PageID{Bits: 257}: encodePage([]Leaf{leaf(0)})},
		"stray bits":                {PageID{Bits: 1, Prefix: chain.Hash{0x40}}: encodePage([]Leaf{leaf(0x40)})},
		"one below another":         {PageID{}: encodePage(many), PageID{Bits: 1}: encodePage(many)},
		"leaves of one page on two": {PageID{Bits: 1}: encodePage([]Leaf{leaf(1)}), PageID{Bits: 1, Prefix: chain.Hash{0x80}}: encodePage([]Leaf{leaf(0x81)})},
		"an empty page":             {PageID{}: nil},
		"half a leaf":               {PageID{}: encodePage(many)[:100]},
		"keys do not rise":          {PageID{}: encodePage([]Leaf{leaf(2), leaf(1)})},
		"too many leaves":           {PageID{}: encodePage(append(many, leaf(0xff)))},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Load(func(yield func(PageID, []byte) error) error {
				for id, page := range pages {
					if err := yield(id, page); err != nil {
						return err
					}
				}
				return nil
			})
			if !errors.Is(err, ErrPage) {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestParseCommitment(t *testing.T) {
	root := repeat("ab", 32)
	for name, test := range map[string]struct {
		index uint64
		typ   chain.Type
		body  string
		ok    bool
	}{
		"good":                   {50, chain.IndexCommitted, `{"entries":"40","format":"signet-index/v1","keys":"7","root":"` + root + `"}`, true},
		"all entries before":     {40, chain.IndexCommitted, `{"entries":"40","format":"signet-index/v1","keys":"7","root":"` + root + `"}`, true},
		"itself":                 {40, chain.IndexCommitted, `{"entries":"41","format":"signet-index/v1","keys":"7","root":"` + root + `"}`, false},
		"the furthest":           {65576, chain.IndexCommitted, `{"entries":"40","format":"signet-index/v1","keys":"7","root":"` + root + `"}`, true},
		"too far":                {65577, chain.IndexCommitted, `{"entries":"40","format":"signet-index/v1","keys":"7","root":"` + root + `"}`, false},
		"no entries":             {40, chain.IndexCommitted, `{"entries":"0","format":"signet-index/v1","keys":"7","root":"` + root + `"}`, false},
		"no keys":                {40, chain.IndexCommitted, `{"entries":"40","format":"signet-index/v1","keys":"0","root":"` + root + `"}`, false},
		"another type":           {50, chain.KeyCreated, `{"entries":"40","format":"signet-index/v1","keys":"7","root":"` + root + `"}`, false},
		"another format":         {50, chain.IndexCommitted, `{"entries":"40","format":"signet-index/v2","keys":"7","root":"` + root + `"}`, false},
		"a leading zero":         {50, chain.IndexCommitted, `{"entries":"040","format":"signet-index/v1","keys":"7","root":"` + root + `"}`, false},
		"a number":               {50, chain.IndexCommitted, `{"entries":40,"format":"signet-index/v1","keys":"7","root":"` + root + `"}`, false},
		"one more member":        {50, chain.IndexCommitted, `{"entries":"40","format":"signet-index/v1","keys":"7","root":"` + root + `","x":""}`, false},
		"one member less":        {50, chain.IndexCommitted, `{"entries":"40","format":"signet-index/v1","root":"` + root + `"}`, false},
		"upper-case hexadecimal": {50, chain.IndexCommitted, `{"entries":"40","format":"signet-index/v1","keys":"7","root":"` + repeat("AB", 32) + `"}`, false},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := ParseCommitment(chain.Entry{Index: test.index, Type: test.typ, Body: jsontext.Value(test.body)})
			if (err == nil) != test.ok || err != nil && !errors.Is(err, ErrMalformed) {
				t.Errorf("%+v %v", c, err)
			}
		})
	}
}
