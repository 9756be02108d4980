package export_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/export"
	"github.com/signetd/signet/api/index"
	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/api/verify"
)

func TestWholeLedger(t *testing.T) {
	l := small(t)
	archive := l.whole()
	if !bytes.Equal(archive, l.whole()) {
		t.Error("two exports of the same have different bytes")
	}
	r := l.verify(archive)
	want(t, r, verify.OK, "")
	if !r.Whole() || r.Entries != uint64(len(l.entries)) || r.Commitments != 2 || r.Timestamped != 1 || r.Attachments != 3 || !r.Unwitnessed ||
		r.Root != l.checkpoint(len(l.entries)).Root.String() || r.Types["session.opened"] != 6 || r.Brackets[0].Size != 8 {
		t.Errorf("report %+v", r)
	}
	t.Run("other programs read the archive", func(t *testing.T) {
		members := unpack(t, archive)
		var names []string
		for _, m := range members {
			names = append(names, m.name)
		}
		if !bytes.Equal(pack(t, members), archive) {
			t.Error("archive/tar writes it otherwise")
		}
		if s := strings.Join(names, " "); !strings.HasPrefix(s, "export.json checkpoint proof.json entries/00000000000000000000.jsonl attachments/00000000000000000000/") ||
			!strings.HasSuffix(s, " SHA256SUMS") || len(names) != 8 {
			t.Error(s)
		}
	})
}

// TestRanges exports every range of ledgers of many sizes.
func TestRanges(t *testing.T) {
	for _, row := range []string{"11.10(b)", "B-49"} {
		t.Attr("requirement", row)
	}
	l := newLedger(t)
	for i := range 600 {
		l.session(i)
	}
	check := func(start, end, size int) {
		t.Helper()
		r := l.verify(l.export(start, end, size))
		if r.Code != verify.OK || r.Entries != uint64(end-start) || r.Whole() != (start == 0 && end == size) {
			t.Fatalf("[%d, %d) of %d: %+v", start, end, size, r)
		}
	}
	for size := 1; size < 20; size++ {
		for start := range size {
			for end := start + 1; end <= size; end++ {
				check(start, end, size)
			}
		}
	}
	for _, x := range [][3]int{{0, 256, 601}, {255, 257, 257}, {256, 512, 512}, {1, 513, 601}, {300, 301, 600}, {0, 601, 601}, {511, 600, 601}} {
		check(x[0], x[1], x[2])
	}
}

func TestWriteRefuses(t *testing.T) {
	l := small(t)
	n := uint64(len(l.entries))
	for name, r := range map[string]export.Range{
		"beyond the checkpoint": {End: n, Checkpoint: l.note(4)},
		"nothing":               {Start: 3, End: 3, Checkpoint: l.note(4)},
		"backwards":             {Start: 3, End: 2, Checkpoint: l.note(4)},
		"no checkpoint":         {},
		"no note":               {Checkpoint: []byte("x\n\n— y z\n")},
	} {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			if err := export.Write(t.Context(), &b, l, r); !errors.Is(err, export.ErrRange) || b.Len() > 0 {
				t.Errorf("%v, %d bytes", err, b.Len())
			}
		})
	}
	t.Run("a checkpoint of another tree", func(t *testing.T) {
		note := l.sign(chain.Checkpoint{Origin: origin, Size: n, Root: chain.Hash{1}})
		if err := export.Write(t.Context(), io.Discard, l, export.Range{Checkpoint: note}); !errors.Is(err, export.ErrSource) {
			t.Error(err)
		}
	})
}

// TestLedgerFaults changes a ledger, and exports what came of it without complaint.
func TestLedgerFaults(t *testing.T) {
	for _, row := range []string{"B-47", "11.10(a)"} {
		t.Attr("requirement", row)
	}
	rewrite := func(l *fakeLedger, i int, change func(*chain.Entry)) {
		e, err := chain.ParseEntry(l.entries[i])
		l.check(err)
		change(&e)
		raw, err := e.Encode()
		l.check(err)
		l.entries[i], l.leaves[i] = raw, chain.LeafHash(raw)
	}
	for name, c := range map[string]struct {
		code   verify.Code
		says   string
		change func(l *fakeLedger)
	}{
		"an entry rewritten": {verify.Ledger, "chain is broken", func(l *fakeLedger) { rewrite(l, 3, func(e *chain.Entry) { e.Actor.ID = "sgn_eve" }) }},
		"two entries swapped": {verify.Ledger, "it says that it is entry", func(l *fakeLedger) {
			l.entries[2], l.entries[3] = l.entries[3], l.entries[2]
			l.leaves[2], l.leaves[3] = l.leaves[3], l.leaves[2]
		}},
		"an entry that is no entry": {verify.Ledger, "entry 4", func(l *fakeLedger) { l.entries[4] = []byte("{}"); l.leaves[4] = chain.LeafHash([]byte("{}")) }},
		"time that went back":       {verify.Ledger, "time went back", func(l *fakeLedger) { l.now = begin; l.session(1) }},
		"another origin": {verify.Ledger, "the ledger was created as", func(l *fakeLedger) {
			rewrite(l, 0, func(e *chain.Entry) { e.Body = []byte(`{"format":"signet-entry/v1","origin":"other"}`) })
		}},
		"no ledger.created":          {verify.Ledger, "is the type of entry 0", func(l *fakeLedger) { rewrite(l, 0, func(e *chain.Entry) { e.Type = chain.SessionOpened }) }},
		"a second ledger.created":    {verify.Ledger, "is the type of entry 0", func(l *fakeLedger) { l.append(chain.LedgerCreated, map[string]string{"origin": origin}) }},
		"a wrong index root":         {verify.Ledger, "committed index root is wrong", func(l *fakeLedger) { l.commit(func(c *index.Commitment) { c.Root[3] ^= 1 }) }},
		"a bracket over a fork":      {verify.Ledger, "forked", func(l *fakeLedger) { rewrite(l, 3, func(e *chain.Entry) { e.Actor.ID = "sgn_eve" }) }},
		"a bracket of another size":  {verify.Ledger, "the time-stamped checkpoint is that of the size", func(l *fakeLedger) { l.bracket(func(b *manifest.CheckpointTimestamped) { b.Size-- }) }},
		"a bracket that goes back":   {verify.Ledger, "fewer than the one before", func(l *fakeLedger) { l.bracket(func(b *manifest.CheckpointTimestamped) { b.Size = 2 }) }},
		"a bracket of what comes":    {verify.Ledger, "want at most as many", func(l *fakeLedger) { l.bracket(func(b *manifest.CheckpointTimestamped) { b.Size = 99 }) }},
		"a time-stamp of other time": {verify.TimeNotProven, "after the entry that records it", func(l *fakeLedger) { l.ahead = time.Hour; l.bracket() }},
		"entries younger than it":    {verify.TimeNotProven, "claims to be of", func(l *fakeLedger) { l.ahead = -time.Hour; l.bracket() }},
		"time-stamps of strangers":   {verify.TimeNotProven, "none of its time-stamps holds", func(l *fakeLedger) { l.stamp, _ = l.authority(); l.bracket() }},
		"an attachment missing":      {verify.Content, "missing; entry 6 names it", func(l *fakeLedger) { delete(l.attachments, 6) }},
		"an attachment too many":     {verify.Content, "extra", func(l *fakeLedger) { l.attachments[2] = [][]byte{[]byte("x")} }},
		"an attachment changed":      {verify.Content, "missing", func(l *fakeLedger) { l.attachments[6] = [][]byte{[]byte("another record")} }},
	} {
		t.Run(name, func(t *testing.T) {
			l := small(t)
			c.change(l)
			r := l.verify(l.whole())
			want(t, r, c.code, c.says)
		})
	}
}

// TestArchiveFaults changes what was exported, and makes SHA256SUMS anew.
func TestArchiveFaults(t *testing.T) {
	t.Attr("requirement", "11.10(a)")
	l := small(t)
	for i := range 300 {
		l.session(i)
	}
	members := unpack(t, l.whole())
	at := func(name string) int {
		i := slices.IndexFunc(members, func(m member) bool { return strings.HasPrefix(m.name, name) })
		if i < 0 {
			t.Fatalf("no member %s", name)
		}
		return i
	}
	replace := func(name, old, by string) func([]member) []member {
		i := at(name)
		return func(m []member) []member {
			m[i].content = bytes.Replace(m[i].content, []byte(old), []byte(by), 1)
			return m
		}
	}
	attachment, second := at("attachments/"), at("entries/00000000000000000256")
	for name, c := range map[string]struct {
		code   verify.Code
		says   string
		change func([]member) []member
	}{
		"the last entry rewritten": {verify.Ledger, "the entries give the root", func(m []member) []member {
			i := bytes.LastIndex(m[second].content, []byte("system"))
			m[second].content[i] = 'S'
			return m
		}},
		"the last entry left out": {verify.Ledger, "entries, and these are", func(m []member) []member {
			c := m[second].content
			m[second].content = c[:bytes.LastIndexByte(c[:len(c)-1], '\n')+1]
			return m
		}},
		"a line without its end":       {verify.Malformed, "line feed", func(m []member) []member { m[second].content = m[second].content[:len(m[second].content)-1]; return m }},
		"an empty file of entries":     {verify.Malformed, "line feed", func(m []member) []member { m[second].content = nil; return m }},
		"a chunk left out":             {verify.Malformed, "stands where entries/", func(m []member) []member { return slices.Delete(m, second, second+1) }},
		"a member too many":            {verify.Malformed, "stands where", func(m []member) []member { return slices.Insert(m, second, member{"README", nil}) }},
		"a member after the end":       {verify.Malformed, "stands after", func(m []member) []member { return append(m, member{"README", nil}) }},
		"attachments out of order":     {verify.Malformed, "above that of the one before", func(m []member) []member { m[attachment], m[attachment+1] = m[attachment+1], m[attachment]; return m }},
		"an attachment with no digest": {verify.Malformed, "not named by a SHA-256", func(m []member) []member { m[attachment].name = m[attachment].name[:60]; return m }},
		"an attachment changed":        {verify.Content, "changed", func(m []member) []member { m[attachment].content = []byte("x"); return m }},
		"an attachment left out":       {verify.Content, "missing", func(m []member) []member { return slices.Delete(m, attachment, attachment+1) }},
		"a header of another version":  {verify.Malformed, "format", replace("export.json", "export/v1", "export/v2")},
		"a header of other entries":    {verify.Malformed, "hashes to the left", replace("export.json", `"start":"0"`, `"start":"1"`)},
		"a header in another form":     {verify.Malformed, "export.json", replace("export.json", `{`, `{ `)},
		"a header beyond the size":     {verify.Malformed, "export.json", replace("export.json", `"end":"3`, `"end":"9`)},
		"a header of another origin":   {verify.Ledger, "export.json says", replace("export.json", `signet.example`, `signet.examples`)},
		"hashes that are too many":     {verify.Malformed, "hashes to the left", replace("proof.json", `[]`, `["`+strings.Repeat("0", 64)+`"]`)},
		"a proof in another form":      {verify.Malformed, "proof.json", replace("proof.json", `]}`, `] }`)},
		"another checkpoint":           {verify.Ledger, "and export.json says", func(m []member) []member { m[1].content = l.note(5); return m }},
		"no signature of the ledger":   {verify.Ledger, "no signature of the key", replace("checkpoint", "— signet.example/ledger ", "— signet.example/ledges ")},
		"a checkpoint without one":     {verify.Ledger, "no signature", func(m []member) []member { m[1].content = []byte(l.checkpoint(5).Text()); return m }},
	} {
		t.Run(name, func(t *testing.T) {
			m := slices.Clone(members)
			for i := range m {
				m[i].content = bytes.Clone(m[i].content)
			}
			m = c.change(m)
			if name != "a member after the end" {
				m = sums(m)
			}
			want(t, l.verify(pack(t, m)), c.code, c.says)
		})
	}
	t.Run("SHA256SUMS", func(t *testing.T) {
		m := slices.Clone(members)
		m[len(m)-1].content = append(bytes.Clone(m[len(m)-1].content), "x\n"...)
		want(t, l.verify(pack(t, m)), verify.Content, "SHA256SUMS")
	})
	t.Run("two faults", func(t *testing.T) {
		m := slices.Clone(members)
		m[attachment].content = nil
		m[1].content = l.note(5)
		r := l.verify(pack(t, sums(m)))
		want(t, r, verify.Content, "changed")
		want(t, l.verify(append(pack(t, m), 0)), verify.Malformed, "more after the end")
	})
}

func TestTrust(t *testing.T) {
	t.Attr("requirement", "B-49")
	l := small(t)
	archive := l.whole()
	other, _, err := chain.VerifierKey(origin, newLedger(t).key.Public())
	l.check(err)
	for name, c := range map[string]struct {
		trust []byte
		code  verify.Code
		says  string
	}{
		"none":                   {nil, verify.Untrusted, "no trust file"},
		"no trust file":          {[]byte("{}"), verify.Malformed, "trust"},
		"another ledger's":       {l.trust(func(f *manifest.Trust) { f.Ledgers[0].VKey = other }), verify.Ledger, "signature"},
		"no ledger":              {l.trust(func(f *manifest.Trust) { f.Ledgers = nil }), verify.Ledger, "not pinned"},
		"a key for other sizes":  {l.trust(func(f *manifest.Trust) { f.Ledgers[0].FromSize = 1000 }), verify.Ledger, "holds for its size"},
		"no time-stamp root":     {l.trust(func(f *manifest.Trust) { f.TimestampRoots = nil }), verify.TimeNotProven, "none of its time-stamps"},
		"a root for other times": {l.trust(func(f *manifest.Trust) { f.TimestampRoots[0].To = f.TimestampRoots[0].From.Add(time.Second).String() }), verify.TimeNotProven, "none of its"},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := export.Verify(t.Context(), bytes.NewReader(archive), export.Options{Trust: c.trust})
			l.check(err)
			want(t, r, c.code, c.says)
		})
	}
}

// TestBitFlips flips one bit of each byte.
func TestBitFlips(t *testing.T) {
	t.Attr("requirement", "11.10(a)")
	l := small(t)
	archive, trust := l.whole(), l.trust()
	const step = 3
	for i := 0; i < len(archive); i += step {
		archive[i] ^= 1 << (i % 8)
		r, err := export.Verify(t.Context(), bytes.NewReader(archive), export.Options{Trust: trust})
		archive[i] ^= 1 << (i % 8)
		if err != nil || r.Code < verify.Content {
			t.Fatalf("a bit of byte %d flipped: %v, %+v", i, err, r)
		}
	}
	for n := range len(archive) {
		if n%16 != 0 {
			continue
		}
		if r := l.verify(archive[:n]); r.Code != verify.Malformed {
			t.Fatalf("cut at byte %d: %+v", n, r)
		}
	}
}

// TestReadsThatFail tells what could not be read from what does not hold.
func TestReadsThatFail(t *testing.T) {
	l := small(t)
	archive := l.whole()
	broken := errors.New("the disk is gone")
	for n := 0; n < len(archive); n += 100 {
		r := io.MultiReader(bytes.NewReader(archive[:n]), iotest.ErrReader(broken))
		if report, err := export.Verify(t.Context(), r, export.Options{Trust: l.trust()}); !errors.Is(err, broken) || report != nil {
			t.Fatalf("at byte %d: %v, %v", n, report, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := export.Verify(ctx, bytes.NewReader(archive), export.Options{Trust: l.trust()}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if r, err := export.Verify(t.Context(), iotest.OneByteReader(bytes.NewReader(archive)), export.Options{Trust: l.trust()}); err != nil || r.Code != verify.OK {
		t.Error(r, err)
	}
}

func FuzzVerify(f *testing.F) {
	const corpus = "../verify/testdata/tampered/"
	read := func(name string) []byte {
		b, err := os.ReadFile(corpus + name)
		if err != nil {
			f.Fatal(err)
		}
		return b
	}
	trust := read("trust.json") // with the same keys in every process
	f.Add(read("exports/export-of-a-whole-ledger.tar"))
	f.Add(read("exports/export-of-its-middle.tar"))
	f.Add(read("exports/export-with-a-time-stamp-of-another-hour.tar"))
	f.Fuzz(func(t *testing.T, archive []byte) {
		r, err := export.Verify(t.Context(), bytes.NewReader(archive), export.Options{Trust: trust})
		if err != nil {
			t.Fatal(err)
		}
		if r.Code != verify.OK {
			return
		}
		if !bytes.Equal(pack(t, unpack(t, archive)), archive) {
			t.Fatal("two archives of one export")
		}
	})
}
