package index

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/signetd/signet/api/chain"
)

// example is a ledger of 60 entries: the commitment of 20 is entry 22, that of 50 is entry 51.
func example(t testing.TB) *testLedger {
	l := newLedger(t)
	l.some(22)
	l.commit(20)
	l.some(28)
	l.commit(50)
	l.some(8)
	return l
}

func TestVerify(t *testing.T) {
	t.Attr("requirement", "B-47")
	l := example(t)
	for _, at := range [][2]int{{0, 0}, {20, 22}, {50, 51}} {
		for _, key := range []Key{"type:signature.created", "type:index.committed", "actor:sgn_1", "actor:index", "session:ses_3", "event:event-4", "subject:sgn_2",
			"subject:st-7", "subject:st-55", "event:nobody's", "subject:x"} {
			t.Run(fmt.Sprint(at[0], key), func(t *testing.T) {
				doc := l.document(l.prove(key, at[0], at[1]))
				c, got, err := l.verify(doc)
				if err != nil {
					t.Fatal(err)
				}
				want := l.having(key)
				if !slices.Equal(got, want) || c.Count != uint64(len(want)) || c.Checkpoint.Size != 60 || c.Key != key || c.Indexed != uint64(at[0]) ||
					c.Commitment != uint64(at[1]) || c.Root.IsZero() != (at[0] == 0) || !bytes.Equal(c.Note, l.checkpoint()) {
					t.Errorf("%v %+v, want %v", got, c, want)
				}
				if _, err := Verify(iotest.OneByteReader(bytes.NewReader(doc)), l.open, nil); err != nil {
					t.Errorf("byte by byte: %v", err)
				}
				if at[0] == 20 {
					return
				}
				if again, err := second(t, doc); err != nil || !slices.Equal(again, want) {
					t.Errorf("the second verifier: %v %v, want %v", again, err, want)
				}
			})
		}
	}
	t.Run("an empty ledger", func(t *testing.T) {
		l := newLedger(t)
		c, got, err := l.verify(l.document(l.prove("event:e", 0, 0)))
		if err != nil || len(got) > 0 || c.Count > 0 || c.Checkpoint.Size > 0 {
			t.Errorf("%+v %v %v", c, got, err)
		}
	})
	t.Run("the caller's error", func(t *testing.T) {
		doc := l.document(l.prove("actor:sgn_1", 20, 22))
		stop := errors.New("stop")
		for n := range len(l.having("actor:sgn_1")) {
			_, err := Verify(bytes.NewReader(doc), l.open, func(chain.Entry, []byte) error {
				if n--; n < 0 {
					return stop
				}
				return nil
			})
			if err != stop {
				t.Errorf("%v", err)
			}
		}
	})
	t.Run("the reader's error", func(t *testing.T) {
		doc := l.document(l.prove("actor:sgn_1", 20, 22))
		failed := errors.New("failed")
		for _, n := range []int{0, 10, len(doc) / 2, len(doc)} {
			if _, err := Verify(io.MultiReader(bytes.NewReader(doc[:n]), iotest.ErrReader(failed)), l.open, nil); !errors.Is(err, failed) {
				t.Errorf("after %d bytes: %v", n, err)
			}
		}
	})
}

// TestVerifyRefuses is what a server could try that wants to leave something out, and what else is wrong.
func TestVerifyRefuses(t *testing.T) {
	t.Attr("requirement", "B-47")
	l := example(t)
	const key = Key("actor:sgn_1")
	good := func() parts { return l.prove(key, 50, 51) }
	other := newLedger(t)
	other.some(60)
	for name, test := range map[string]struct {
		change func(p *parts)
		want   error
	}{
		"the first listed entry left out":  {func(p *parts) { p.listed = p.listed[1:] }, ErrMalformed},
		"the last listed entry left out":   {func(p *parts) { p.listed = p.listed[:len(p.listed)-1] }, ErrMalformed},
		"left out, and the count adapted":  {func(p *parts) { p.listed = p.listed[1:]; p.header.Map.Leaf.Count-- }, ErrProof},
		"listed twice":                     {func(p *parts) { p.listed[1] = p.listed[0] }, ErrProof},
		"listed in another order":          {func(p *parts) { p.listed[0], p.listed[1] = p.listed[1], p.listed[0] }, ErrProof},
		"another entry listed":             {func(p *parts) { p.listed[0] = l.prove("actor:sgn_2", 50, 51).listed[0] }, ErrProof},
		"one listed in the place of one":   {func(p *parts) { p.listed[2] = p.listed[3]; p.listed[3] = l.prove(key, 20, 22).listed[0] }, ErrProof},
		"a listed entry changed":           {func(p *parts) { p.listed[0].Entry = strings.Replace(p.listed[0].Entry, "event-1", "event-2", 1) }, ErrProof},
		"a listed entry that is none":      {func(p *parts) { p.listed[0].Entry = "{}" }, chain.ErrMalformed},
		"a proof of another entry":         {func(p *parts) { p.listed[0].Proof = p.listed[1].Proof }, ErrProof},
		"no proof":                         {func(p *parts) { p.listed[0].Proof = nil }, ErrProof},
		"a member shown as absent":         {func(p *parts) { p.listed = nil; p.header.Map.Leaf = nil }, ErrProof},
		"absent by another's leaf":         {func(p *parts) { p.listed = nil; p.header.Map.Leaf.Key[31] ^= 1 }, ErrProof},
		"the proof of another key":         {func(p *parts) { p.header.Map = l.prove("actor:sgn_2", 50, 51).header.Map; p.listed = nil }, ErrProof},
		"the map of another commitment":    {func(p *parts) { q := l.prove(key, 20, 22); p.header.Map, p.listed = q.header.Map, q.listed }, ErrProof},
		"an older size":                    {func(p *parts) { p.header.Entries = 20 }, ErrMalformed},
		"an older commitment":              {func(p *parts) { p.header.Commitment = "22" }, ErrMalformed},
		"another entry as commitment":      {func(p *parts) { p.header.Commitment = "55" }, ErrMalformed},
		"a commitment beyond the end":      {func(p *parts) { p.header.Commitment = "60" }, ErrMalformed},
		"a commitment with a leading zero": {func(p *parts) { p.header.Commitment = "051" }, ErrMalformed},
		"a commitment that is no number":   {func(p *parts) { p.header.Commitment = "x" }, ErrMalformed},
		"no commitment":                    {func(p *parts) { p.header.Commitment = "" }, ErrMalformed},
		"no size":                          {func(p *parts) { p.header.Entries = 0 }, ErrMalformed},
		"a size beyond the checkpoint":     {func(p *parts) { p.header.Entries = 61 }, ErrMalformed},
		"a map without a commitment": {func(p *parts) {
			q := l.prove(key, 0, 0)
			q.header.Map, *p = p.header.Map, q
			p.header.Map = good().header.Map
		}, ErrMalformed},
		"the first of the rest left out": {func(p *parts) { p.following = p.following[1:] }, ErrProof},
		"the last of the rest left out":  {func(p *parts) { p.following = p.following[:len(p.following)-1] }, ErrMalformed},
		"one of the rest changed": {func(p *parts) {
			p.following[6].Entry = strings.Replace(p.following[6].Entry, "event-", "event_", 1)
		}, ErrProof},
		"one of the rest hidden": {func(p *parts) {
			p.following[6].Entry = strings.ReplaceAll(p.following[6].Entry, "sgn_", "sgx_")
		}, ErrProof},
		"two of the rest swapped": {func(p *parts) {
			p.following[5], p.following[6] = p.following[6], p.following[5]
		}, ErrProof},
		"one more at the end":       {func(p *parts) { p.following = append(p.following, p.following[0]) }, ErrMalformed},
		"a changed subtree":         {func(p *parts) { p.header.Subtrees[0][0] ^= 1 }, ErrProof},
		"a subtree left out":        {func(p *parts) { p.header.Subtrees = p.header.Subtrees[1:] }, ErrMalformed},
		"a subtree more":            {func(p *parts) { p.header.Subtrees = append(p.header.Subtrees, chain.Hash{}) }, ErrMalformed},
		"another key asked for":     {func(p *parts) { p.header.Key = "actor:sgn_2" }, ErrMalformed},
		"a key without a kind":      {func(p *parts) { p.header.Key = "sgn_1" }, ErrMalformed},
		"no checkpoint":             {func(p *parts) { p.header.Checkpoint = "" }, chain.ErrMalformed},
		"a forged checkpoint":       {func(p *parts) { p.header.Checkpoint = strings.Replace(p.header.Checkpoint, "\n60\n", "\n61\n", 1) }, chain.ErrSignature},
		"another tree's checkpoint": {func(p *parts) { p.header.Checkpoint = string(other.checkpoint()) }, ErrProof},
	} {
		t.Run(name, func(t *testing.T) {
			p := good()
			test.change(&p)
			doc := l.document(p)
			_, got, err := l.verify(doc)
			if !errors.Is(err, test.want) {
				t.Errorf("%v %v, want %v", got, err, test.want)
			}
			if test.want != chain.ErrSignature {
				secondRefuses(t, doc)
			}
		})
	}
	doc := string(l.document(good()))
	first, rest, _ := strings.Cut(doc, "\n")
	for name, text := range map[string]string{
		"empty":                      "",
		"cut in a line":              doc[:len(doc)-10],
		"no line feed at the end":    doc[:len(doc)-1],
		"cut between lines":          doc[:strings.LastIndex(doc[:len(doc)-1], "\n")+1],
		"an empty line at the end":   doc + "\n",
		"another line at the end":    doc + "{}\n",
		"an empty line in between":   first + "\n\n" + rest,
		"carriage returns":           strings.ReplaceAll(doc, "\n", "\r\n"),
		"a blank":                    strings.Replace(doc, `"format":`, `"format": `, 1),
		"another format":             strings.Replace(doc, DocumentFormat, "signet-completeness/v2", 1),
		"an unknown member":          strings.Replace(doc, `"format":`, `"formal":"","format":`, 1),
		"a member left out":          strings.Replace(doc, `"format":"`+DocumentFormat+`",`, "", 1),
		"a number for a string":      strings.Replace(doc, `"entries":"50"`, `"entries":50`, 1),
		"a long line":                repeat("x", maxLine+1) + doc,
		"an element of the map more": strings.Replace(doc, `"map":{`, `"map":{"a":"",`, 1),
		"an empty leaf":              strings.Replace(doc, `"count":"`, `"count":"0`, 1),
	} {
		t.Run(name, func(t *testing.T) {
			if text == doc {
				t.Fatal("nothing was changed")
			}
			if _, _, err := l.verify([]byte(text)); !errors.Is(err, ErrMalformed) {
				t.Errorf("%v", err)
			}
			secondRefuses(t, []byte(text))
		})
	}
}

// TestVerifyRefusesLies proves by a commitment that is not so.
func TestVerifyRefusesLies(t *testing.T) {
	t.Attr("requirement", "B-47")
	// listOf is the list of some entries.
	listOf := func(l *testLedger, entries ...uint64) (out List) {
		for _, i := range entries {
			out = out.Append(i, chain.LeafHash(l.entries[i]))
		}
		return out
	}
	const key = Key("actor:sgn_1") // entries 1, 5, 9, 13, 17
	t.Run("one left out, and another one left out", func(t *testing.T) {
		l := newLedger(t)
		l.some(22)
		l.lie = func(lists map[Key]List) { lists[key] = listOf(l, 1, 5, 9, 13) }
		l.commit(20)
		p := l.prove(key, 20, 22)
		p.listed = p.listed[1:]
		doc := l.document(p)
		if _, got, err := l.verify(doc); !errors.Is(err, ErrProof) {
			t.Errorf("%v %v", got, err)
		}
		secondRefuses(t, doc)
	})
	t.Run("one listed that does not have the key", func(t *testing.T) {
		l := newLedger(t)
		l.some(22)
		l.lie = func(lists map[Key]List) { lists[key] = listOf(l, 1, 2) }
		l.commit(20)
		p, q := l.prove(key, 20, 22), l.prove("actor:sgn_2", 20, 22)
		p.listed = []listed{p.listed[0], q.listed[0]}
		doc := l.document(p)
		if _, got, err := l.verify(doc); !errors.Is(err, ErrProof) {
			t.Errorf("%v %v", got, err)
		}
		secondRefuses(t, doc)
	})
	t.Run("one listed twice", func(t *testing.T) {
		l := newLedger(t)
		l.some(22)
		l.lie = func(lists map[Key]List) { lists[key] = listOf(l, 1, 1) }
		l.commit(20)
		p := l.prove(key, 20, 22)
		p.listed = []listed{p.listed[0], p.listed[0]}
		doc := l.document(p)
		if _, got, err := l.verify(doc); !errors.Is(err, ErrProof) {
			t.Errorf("%v %v", got, err)
		}
		secondRefuses(t, doc)
	})
	t.Run("one beyond what the commitment covers, as if it were covered", func(t *testing.T) {
		l := newLedger(t)
		l.some(23)
		l.commit(21) // entry 23; entry 21 has the key
		const key = Key("actor:sgn_1")
		if !slices.Contains(l.having(key), 21) {
			t.Fatal("entry 21 does not have the key")
		}
		p, q := l.prove(key, 21, 23), l.prove(key, 22, 23)
		p.header.Entries, p.header.Subtrees, p.following = 22, q.header.Subtrees, q.following
		doc := l.document(p)
		if _, got, err := l.verify(doc); !errors.Is(err, ErrProof) {
			t.Errorf("%v %v", got, err)
		}
		secondRefuses(t, doc)
	})
}

// TestVerifyEveryByte changes each byte of a document: nothing else is proved.
func TestVerifyEveryByte(t *testing.T) {
	t.Attr("requirement", "11.10(a)")
	l := newLedger(t)
	l.some(9)
	l.commit(8)
	l.some(2)
	doc := l.document(l.prove("actor:sgn_1", 8, 9))
	if _, _, err := l.verify(doc); err != nil {
		t.Fatal(err)
	}
	for i := range doc {
		changed := clone(doc)
		changed[i] ^= 1
		if c, _, err := l.verify(changed); err == nil {
			t.Fatalf("byte %d, %q: proves %+v", i, doc[max(0, i-20):min(len(doc), i+20)], c)
		}
	}
}

func TestWriterRefusesLongLines(t *testing.T) {
	w, err := NewWriter(io.Discard, Header{})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Following(bytes.Repeat([]byte{'x'}, maxLine)); err == nil {
		t.Error("a line of more than the limit was written")
	}
	if err := w.Listed(bytes.Repeat([]byte{'"'}, chain.MaxEntry), make([]chain.Hash, chain.MaxProof)); err != nil {
		t.Errorf("the largest entry: %v", err)
	}
}

// second verifies a document with testdata/complete.py, which was written from the documentation alone.
func second(t *testing.T, doc []byte) (got []uint64, err error) {
	t.Helper()
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Fatalf("the second verifier needs python3 (make deps-test installs it): %v", err)
	}
	file := filepath.Join(t.TempDir(), "document.jsonl")
	if err := os.WriteFile(file, doc, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), python, "testdata/complete.py", file)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		if !strings.HasPrefix(stderr.String(), "refused: ") {
			t.Fatalf("the second verifier broke: %v\n%s", err, stderr.String())
		}
		return nil, errors.New(stderr.String())
	}
	for _, field := range strings.Fields(string(out)) {
		i, err := strconv.ParseUint(field, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, i)
	}
	return got, nil
}

func secondRefuses(t *testing.T, doc []byte) {
	t.Helper()
	if got, err := second(t, doc); err == nil {
		t.Errorf("the second verifier accepts it: %v", got)
	}
}

var update = flag.Bool("update", false, "write the files of testdata")

// TestVector holds what is written against a file, which verifiers in other languages read too.
func TestVector(t *testing.T) {
	l := example(t)
	for name, doc := range map[string][]byte{
		"testdata/completeness.jsonl":         l.document(l.prove("actor:sgn_1", 50, 51)),
		"testdata/completeness-absent.jsonl":  l.document(l.prove("event:nobody's", 50, 51)),
		"testdata/completeness-without.jsonl": l.document(l.prove("session:ses_3", 0, 0)),
	} {
		if *update {
			if err := os.WriteFile(name, doc, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(doc, want) {
			t.Errorf("%s is another", name)
		}
	}
	vkey, _, err := chain.VerifierKey(origin, l.key.Public())
	if err != nil {
		t.Fatal(err)
	}
	const pinned = "test.example/ledger+aa687a9d+AepKbGPinFIKvvVQexMuxfmVR3auvr57kkIe6mkURtIs"
	if !*update && vkey != pinned {
		t.Errorf("the key of the files is %s", vkey)
	}
}

// FuzzVerify changes documents: nothing panics, and what verifies is the one document that there is.
func FuzzVerify(f *testing.F) {
	l := newLedger(f)
	l.some(9)
	l.commit(8)
	l.some(2)
	for _, key := range []Key{"actor:sgn_1", "event:none"} {
		f.Add(l.document(l.prove(key, 8, 9)))
		f.Add(l.document(l.prove(key, 0, 0)))
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		l := *l
		l.t = t
		c, got, err := l.verify(doc)
		if err != nil {
			return
		}
		if want := l.having(c.Key); !slices.Equal(got, want) {
			t.Fatalf("%s: proves %v, but they are %v", c.Key, got, want)
		}
		if again := l.document(l.prove(c.Key, int(c.Indexed), int(c.Commitment))); !bytes.Equal(again, doc) {
			t.Fatalf("two documents for one thing:\n%q\n%q", doc, again)
		}
	})
}

// FuzzMapProof reads proofs: nothing panics, and there is one text for each.
func FuzzMapProof(f *testing.F) {
	l := newLedger(f)
	l.some(9)
	for _, key := range []Key{"actor:sgn_1", "event:none"} {
		p := l.prove(key, 8, 9).header.Map
		b, err := p.MarshalJSON()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, string(key))
	}
	lists := l.lists(8)
	root := plainRoot(leavesOf(lists), 0)
	f.Fuzz(func(t *testing.T, b []byte, key string) {
		var p MapProof
		if p.UnmarshalJSON(b) != nil {
			return
		}
		list, err := p.Verify(root, Key(key).Hash())
		if err == nil && list != lists[Key(key)] {
			t.Fatalf("%q: proves %v", key, list)
		}
	})
}
