package trail_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/csv"
	"encoding/json/v2"
	"errors"
	"fmt"
	"html"
	"strings"
	"testing"
	"time"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/jcs"
	"github.com/signetd/signet/api/trail"
)

// entries makes entries of bodies, one second apart.
func entries(t testing.TB, list ...chain.Entry) [][]byte {
	t.Helper()
	var out [][]byte
	var prev chain.Hash
	at := time.Date(2026, 11, 21, 9, 30, 0, 123e6, time.UTC)
	for i, e := range list {
		e.Index, e.Prev, e.V, e.Time = uint64(i), prev, chain.Version, chain.NewTime(at.Add(time.Duration(i)*time.Second))
		raw, err := e.Encode()
		if err != nil {
			t.Fatal(err)
		}
		prev = chain.LeafHash(raw)
		out = append(out, raw)
	}
	return out
}

func body(t testing.TB, v any) []byte {
	t.Helper()
	b, err := jcs.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

type object = map[string]any

// story is what the tests read: an enrolment, an approval, a rejection with another value than before, and texts that mean harm.
func story(t testing.TB) [][]byte {
	admin := chain.Actor{ID: "sgn_admin", Kind: chain.Person, Method: "password", Session: "ses_1", Source: strings.Repeat("ab", 32)}
	ada := chain.Actor{ID: "sgn_ada", Kind: chain.Person, Method: "password", Session: "ses_2"}
	return entries(t,
		chain.Entry{Type: chain.SignerEnrolled, Actor: ada, Body: body(t, object{"id": "sgn_ada", "name": "Ada Lovelace", "keyId": strings.Repeat("0f", 32), "roles": []string{"signer", "auditor"}, "note": object{}})},
		chain.Entry{Type: chain.SignatureCreated, Actor: ada, Request: strings.Repeat("cd", 32), Body: body(t, object{"signer": "sgn_ada", "event": "0193c1f0", "statement": strings.Repeat("1e", 32)})},
		chain.Entry{Type: chain.SignerRevoked, Actor: admin, Body: body(t, object{"id": "sgn_ada", "reason": "=HYPERLINK(\"http://x\")", "old": "active", "new": "revoked", "list": []any{1, true, nil, []any{}, object{"deep": "<script>alert(1)</script>"}}})},
		chain.Entry{Type: chain.AccessDenied, Actor: chain.Actor{ID: "gate", Kind: chain.System}, Body: body(t, object{"method": "line\nbreak \u202eright to left", "reason": "role", "": "a member without a name"})},
	)
}

func write(t testing.TB, f trail.Format, list [][]byte) string {
	t.Helper()
	var b bytes.Buffer
	w, err := trail.New(f, &b, trail.Header{Origin: "signet.example/ledger", Selection: "subject sgn_ada", Checkpoint: &chain.Checkpoint{Origin: "signet.example/ledger", Size: 4, Root: chain.LeafHash(list[0])}})
	if err != nil {
		t.Fatal(err)
	}
	for _, raw := range list {
		if err := w.Add(raw); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// texts collects every string in a JSON value.
func texts(v any, add func(string)) {
	switch v := v.(type) {
	case string:
		add(v)
	case []any:
		for _, x := range v {
			texts(x, add)
		}
	case map[string]any:
		for k, x := range v {
			add(k)
			texts(x, add)
		}
	}
}

// Every value of every entry stands in every copy.
func TestNothingIsLeftOut(t *testing.T) {
	list := story(t)
	for _, f := range []trail.Format{trail.Text, trail.CSV, trail.JSONL, trail.HTML} {
		t.Run(string(f), func(t *testing.T) {
			for _, row := range []string{"11.10(b)", "11.10(e)", "C-100", "C-101"} {
				t.Attr("requirement", row)
			}
			out := write(t, f, list)
			if f == trail.HTML {
				out = html.UnescapeString(out)
			}
			for i, raw := range list {
				var v map[string]any
				if err := json.Unmarshal(raw, &v); err != nil {
					t.Fatal(err)
				}
				leaf := chain.LeafHash(raw).String()
				if f != trail.JSONL && !strings.Contains(out, leaf) {
					t.Errorf("entry %d: its leaf hash is not there", i)
				}
				delete(v, "time") // written in another way
				delete(v, "v")
				texts(v, func(s string) {
					plain := !strings.ContainsAny(s, "\n\u202e\"=<")
					if plain && !strings.Contains(out, s) && s != "actor" && s != "body" && s != "prev" && s != "index" && s != "kind" && s != "id" && s != "request" && s != "type" && s != "method" && s != "session" && s != "source" {
						t.Errorf("entry %d: %q is not there", i, s)
					}
				})
			}
		})
	}
}

func TestSameBytesEachTime(t *testing.T) {
	list := story(t)
	for _, f := range []trail.Format{trail.Text, trail.CSV, trail.JSONL, trail.HTML} {
		if first, again := write(t, f, list), write(t, f, list); first != again {
			t.Errorf("%s: the same entries give another copy", f)
		}
	}
}

func TestItem(t *testing.T) {
	list := story(t)
	var r trail.Reader
	var items []trail.Item
	for _, raw := range list {
		i, err := r.Read(raw)
		if err != nil {
			t.Fatal(err)
		}
		items = append(items, i)
	}
	for i, want := range []string{
		"Ada Lovelace (sgn_ada) enrolled with the key " + strings.Repeat("0f", 32) + ".",
		"Ada Lovelace (sgn_ada) signed event 0193c1f0: statement " + strings.Repeat("1e", 32) + ".",
		"sgn_admin revoked Ada Lovelace (sgn_ada) for good.",
	} {
		if got := items[i].Sentence; got != want {
			t.Errorf("entry %d: %s", i, got)
		}
	}
	if items[0].When() != "2026-11-21 09:30:00.123 UTC" {
		t.Errorf("time %s", items[0].When())
	}
	var paths []string
	for _, f := range items[2].Body {
		paths = append(paths, f.Path+"="+f.Value)
	}
	want := `id=sgn_ada list[0]=1 list[1]=true list[2]=null list[3]=[] list[4].deep=<script>alert(1)</script> new=revoked old=active reason==HYPERLINK("http://x")`
	if got := strings.Join(paths, " "); got != want {
		t.Errorf("paths\n got %s\nwant %s", got, want)
	}
	if got := items[0].Get("note"); got != "{}" {
		t.Errorf("an empty object shows as %q", got)
	}
}

// A text out of an entry does no harm where the copy is looked at.
func TestHarmless(t *testing.T) {
	list := story(t)
	if out := write(t, trail.HTML, list); strings.Contains(out, "<script") || !strings.Contains(out, "default-src 'none'") {
		t.Error("a script in an entry is a script in the page")
	}
	for _, f := range []trail.Format{trail.Text, trail.HTML} {
		if out := write(t, f, list); strings.Contains(out, "\u202e") || !strings.Contains(out, `\u{202e}`) || strings.Contains(out, "line\nbreak") {
			t.Errorf("%s: a text steers what is around it", f)
		}
	}
	records, err := csv.NewReader(strings.NewReader(write(t, trail.CSV, list))).ReadAll()
	if err != nil || len(records) != 5 || fmt.Sprint(records[0]) != fmt.Sprint(trail.Columns) {
		t.Fatalf("%d records, %v", len(records), err)
	}
	if got := records[3][9]; got != `'=HYPERLINK("http://x")` {
		t.Errorf("a formula: %s", got)
	}
}

// A signature's decision, meaning and reason stand in its statement, which the entry names by its digest.
func TestStatement(t *testing.T) {
	statement := body(t, object{"predicate": object{"decision": "reject", "meaning": object{"text": "I reject this release."}, "reason": "Test 7 fails."}})
	digest := chain.Hash(sha256.Sum256(statement))
	ada := chain.Actor{ID: "sgn_ada", Kind: chain.Person}
	list := entries(t,
		chain.Entry{Type: chain.SignaturePrepared, Actor: ada, Body: body(t, object{"signer": "sgn_ada", "event": "0193c1f0", "statement": digest.String()})},
		chain.Entry{Type: chain.SignatureCreated, Actor: ada, Body: body(t, object{"signer": "sgn_ada", "event": "0193c1f0", "statement": digest.String()})},
		chain.Entry{Type: chain.SignatureCreated, Actor: ada, Body: body(t, object{"signer": "sgn_ada", "event": "0193c1f0", "statement": strings.Repeat("1e", 32)})},
	)
	attached := func(d chain.Hash) []byte {
		if d == digest {
			return statement
		}
		return nil
	}
	r := trail.Reader{Attached: attached}
	for i, want := range []string{
		"sgn_ada prepared a signature about event 0193c1f0, to decide “reject”: I reject this release.",
		"sgn_ada signed event 0193c1f0 and decided “reject”: I reject this release.",
		"sgn_ada signed event 0193c1f0: statement " + strings.Repeat("1e", 32) + ".",
	} {
		item, err := r.Read(list[i])
		if err != nil || item.Sentence != want {
			t.Errorf("entry %d: %s, %v", i, item.Sentence, err)
		}
		if i < 2 && item.Reason != "Test 7 fails." {
			t.Errorf("entry %d: why: %q", i, item.Reason)
		}
	}
	for _, f := range []trail.Format{trail.Text, trail.CSV, trail.HTML} {
		t.Run(string(f), func(t *testing.T) {
			t.Attr("requirement", "C-100")
			var b bytes.Buffer
			w, err := trail.New(f, &b, trail.Header{Origin: "x", Attached: attached})
			if err != nil {
				t.Fatal(err)
			}
			if err := w.Add(list[1]); err != nil {
				t.Fatal(err)
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			for _, want := range []string{"reject", "I reject this release.", "Test 7 fails."} {
				if strings.Count(b.String(), want) < 2 {
					t.Errorf("%q is not shown:\n%s", want, b.String())
				}
			}
		})
	}
	r.Attached = func(chain.Hash) []byte { return []byte(`{}`) }
	if _, err := r.Read(list[1]); err == nil {
		t.Error("another statement was shown")
	}
}

// Every type has a sentence of its own, so that a new one is not forgotten.
func TestEveryTypeHasASentence(t *testing.T) {
	seen := map[string]chain.Type{}
	for _, typ := range chain.Types() {
		list := entries(t, chain.Entry{Type: typ, Actor: chain.Actor{ID: "ACTOR", Kind: chain.Person}, Body: body(t, object{"from": "OLD", "to": "NEW"})})
		var r trail.Reader
		i, err := r.Read(list[0])
		if err != nil {
			t.Fatal(err)
		}
		if i.Sentence == string(typ)+"." || strings.ContainsAny(i.Sentence, "{}") {
			t.Errorf("%s: %s", typ, i.Sentence)
		}
		if other, ok := seen[i.Sentence]; ok {
			t.Errorf("%s and %s: %s", typ, other, i.Sentence)
		}
		seen[i.Sentence] = typ
	}
	t.Run("old and new value", func(t *testing.T) {
		t.Attr("requirement", "11.10(e)")
		for _, typ := range []chain.Type{chain.KeyRotated, chain.KeyDisabled, chain.KeyEnabled, chain.KeyDestroyed} {
			found := false
			for sentence, of := range seen {
				found = found || of == typ && strings.Contains(sentence, "it was OLD, and is NEW")
			}
			if !found {
				t.Errorf("%s: the sentence does not say both", typ)
			}
		}
	})
}

// A JSON Lines copy holds the bytes themselves.
func TestJSONLines(t *testing.T) {
	list := story(t)
	if got := write(t, trail.JSONL, list); got != string(bytes.Join(list, []byte("\n")))+"\n" {
		t.Error("the lines are not the entries")
	}
}

func TestRefusals(t *testing.T) {
	if _, err := trail.New("pdf", &bytes.Buffer{}, trail.Header{}); !errors.Is(err, trail.ErrFormat) {
		t.Errorf("an unknown format: %v", err)
	}
	for _, f := range []trail.Format{trail.Text, trail.CSV, trail.JSONL, trail.HTML} {
		var b bytes.Buffer
		w, err := trail.New(f, &b, trail.Header{Origin: "x"})
		if err != nil {
			t.Fatal(err)
		}
		before := b.Len()
		if err := w.Add([]byte(`{"index":"0"}`)); err == nil || b.Len() != before {
			t.Errorf("%s: what is no entry was written: %v", f, err)
		}
	}
}

func FuzzRead(f *testing.F) {
	for _, raw := range story(f) {
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var r trail.Reader
		i, err := r.Read(raw)
		if err != nil {
			return
		}
		for _, line := range append(append(i.Details(), i.Facts()...), [2]string{i.What(), i.When()}) {
			if strings.ContainsAny(line[0]+line[1], "\n\r\x1b\u202e") {
				t.Errorf("%q steers a terminal", line)
			}
		}
	})
}
