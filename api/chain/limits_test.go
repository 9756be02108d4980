package chain

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json/jsontext"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/signetd/signet/api/jcs"
)

// A checkpoint that is read without its signatures is held to the same form.
func TestParseCheckpoint(t *testing.T) {
	root := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{7}, 32))
	empty := base64.StdEncoding.EncodeToString(EmptyRoot[:])
	for text, want := range map[string]bool{
		"a\n7\n" + root + "\n": true, "a\n0\n" + empty + "\n": true, fmt.Sprintf("a\n%d\n%s\n", uint64(MaxSize), root): true,
		strings.Repeat("x", MaxOrigin) + "\n7\n" + root + "\n": true,

		strings.Repeat("x", MaxOrigin+1) + "\n7\n" + root + "\n": false, fmt.Sprintf("a\n%d\n%s\n", uint64(MaxSize+1), root): false,
		"\n7\n" + root + "\n": false, "a b\n7\n" + root + "\n": false, "a+b\n7\n" + root + "\n": false, "a\x01b\n7\n" + root + "\n": false,
		"a\u00a0b\n7\n" + root + "\n": false, "a\xff\n7\n" + root + "\n": false, "a\n0\n" + root + "\n": false, "a\n7\n" + root: false,
		"a\n7\n" + root + "\nx": false, "a\n7\n" + root + "\n\n": false, "a\n\n" + root + "\n": false, "a\n7\n" + root[:40] + "\n": false,
		"a\n7\n" + root[:43] + "\r\n": false, "a\n7\n" + root[:20] + "\r" + root[20:] + "\n": false,
	} {
		c, err := ParseCheckpoint(text)
		if (err == nil) != want || err != nil && !errors.Is(err, ErrMalformed) || err == nil && c.Text() != text {
			t.Errorf("%.60q: %+v, %v", text, c, err)
		}
	}
}

// What is no signature line is refused wherever signed notes are read: nobody has to agree about what was skipped.
func TestNoteLines(t *testing.T) {
	w, sign := testWitness(t, "w", 1)
	k := newKeys(t)["Ed25519"]
	v, _ := k.verifier(t)
	ledger := k.signed(t, Checkpoint{Origin: origin, Size: 7, Root: newStore(7).Root()})
	text := string(ledger[:bytes.Index(ledger, []byte("\n\n"))+1])
	line, err := w.Cosign(t.Context(), text, time.Unix(10, 0), sign)
	if err != nil {
		t.Fatal(err)
	}
	signed := append(bytes.Clone(ledger), line...)
	for name, more := range map[string]string{
		"a hyphen": "- x AAAAAAAA\n", "a name alone": "— x\n", "no name": "—  AAAAAAAA\n", "a name with a plus": "— x+y AAAAAAAA\n",
		"four bytes": "— x AAAAAA==\n", "stray bits": "— x AAAAAAB=\n", "a carriage return": "— x AAAA\rAAAA\n", "one at the end": "— x AAAAAAAA\r\n",
		"no line feed": "— x AAAAAAAA", "too many": strings.Repeat("— x AAAAAAAA\n", MaxSignatures-1),
		"too long": "— x " + strings.Repeat("A", MaxNote) + "\n",
	} {
		bent := append(bytes.Clone(signed), more...)
		if _, err := OpenCheckpoint(bent, v); !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrSignature) {
			t.Errorf("%s: the checkpoint opens: %v", name, err)
		}
		if _, _, err := w.Verify(bent); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: the cosignature verifies: %v", name, err)
		}
		if _, err := AddSignatures(signed, bent); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: it is added: %v", name, err)
		}
		if _, err := AddSignatures(bent, signed); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: it is added to: %v", name, err)
		}
	}
	full := append(bytes.Clone(signed), strings.Repeat("— x AAAAAAAA\n", MaxSignatures-2)...)
	if _, _, err := w.Verify(full); err != nil {
		t.Errorf("%d signatures: %v", MaxSignatures, err)
	}
	if _, err := OpenCheckpoint(full, v); err != nil {
		t.Errorf("%d signatures: %v", MaxSignatures, err)
	}
	large := []byte(text + "\n— y " + strings.Repeat("A", MaxNote-len(signed)) + "\n")
	if _, err := AddSignatures(signed, large); !errors.Is(err, ErrMalformed) {
		t.Errorf("together more than %d bytes: %v", MaxNote, err)
	}
}

// A policy that asks for nobody is met by whatever it is; others count what they say.
func TestPolicyForms(t *testing.T) {
	if p, err := ParsePolicy("quorum none"); err != nil || p.Check([]byte("no note")) != nil {
		t.Errorf("nobody is asked: %v", err)
	}
	w, _ := testWitness(t, "witness.example/w1", 1)
	one := "witness a " + w.String() + "\n"
	for _, text := range []string{
		"witness a\nquorum none\n", one + "witness\nquorum a\n", "witness a " + w.String() + " https://x y\nquorum none\n",
		one + "group g any\nquorum a\n", one + "crowd g any a\nquorum a\n", one + "group\nquorum a\n", one + "wanted a\n", one + "quorum\n",
		"log\nquorum none\n", "#\x7f\nquorum none\n", one + "group g -1 a\nquorum a\n", one + "group g x a\nquorum a\n",
	} {
		if _, err := ParsePolicy(text); !errors.Is(err, ErrMalformed) {
			t.Errorf("%q: %v", text, err)
		}
	}
	var logs, witnesses, groups, members strings.Builder
	for i := range MaxWitnesses + 1 {
		key := ed25519.NewKeyFromSeed(append([]byte{byte(i), byte(i >> 8), 1}, make([]byte, 29)...)).Public().(ed25519.PublicKey)
		vkey, _, err := VerifierKey("l", key)
		if err != nil {
			t.Fatal(err)
		}
		c, err := CosignerOf("w", key)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&logs, "log %s\n", vkey)
		if i < MaxWitnesses {
			fmt.Fprintf(&witnesses, "witness w%d %s\n", i, c)
			fmt.Fprintf(&members, " w%d", i)
			fmt.Fprintf(&groups, "group g%d all w%d\n", i, i)
		}
	}
	if _, err := ParsePolicy(logs.String() + "quorum none\n"); !errors.Is(err, ErrMalformed) {
		t.Errorf("too many logs: %v", err)
	}
	if _, err := ParsePolicy(witnesses.String() + groups.String() + "quorum g0\n"); err != nil {
		t.Errorf("as many groups as there may be: %v", err)
	}
	if _, err := ParsePolicy(witnesses.String() + "group all all" + members.String() + "\nquorum all\n"); err != nil {
		t.Errorf("a group of all: %v", err)
	}
	if _, err := ParsePolicy(witnesses.String() + groups.String() + "group more any g0\nquorum more\n"); !errors.Is(err, ErrMalformed) {
		t.Errorf("too many groups: %v", err)
	}
}

// The depth of a body is that of its objects and lists, whatever its texts hold.
func TestBodyDepth(t *testing.T) {
	brackets := strings.Repeat("[{", 100)
	wide := strings.TrimSuffix(strings.Repeat(`[],{},`, 100), ",")
	nested := strings.Repeat("[", jcs.MaxDepth-2) + strings.Repeat("]", jcs.MaxDepth-2)
	for name, body := range map[string]any{
		"brackets in a text":         map[string]string{"a": brackets},
		"behind an escaped quote":    map[string]string{"a": `"` + brackets + `\`, "b": `\"` + brackets},
		"one beside the other":       map[string]jsontext.Value{"a": jsontext.Value("[" + wide + "]")},
		"lists as deep as it may be": map[string]jsontext.Value{"a": jsontext.Value(nested)},
	} {
		if _, err := MarshalBody(body); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, body := range map[string]any{
		"lists that are deeper":   map[string]jsontext.Value{"a": jsontext.Value("[" + nested + "]")},
		"behind a text":           map[string]jsontext.Value{"a": jsontext.Value(`"\\"`), "b": jsontext.Value("[" + nested + "]")},
		"what cannot be JSON":     map[string]any{"a": make(chan int)},
		"more than an entry has":  map[string]string{"a": strings.Repeat("x", MaxEntry)},
		"a fraction":              map[string]float64{"a": 1.5},
		"a list instead of names": []string{"a"},
	} {
		if _, err := MarshalBody(body); err == nil {
			t.Errorf("%s: it is a body", name)
		}
	}
}

// An entry of the smallest form, and one that is just too large with all that stands around its body.
func TestEntryForms(t *testing.T) {
	for _, kind := range []Kind{Person, Service, System} {
		e := Entry{Actor: Actor{ID: "a", Kind: kind}, Body: jsontext.Value("{}"), Type: LedgerCreated, V: Version}
		b, err := e.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if back, err := ParseEntry(b); err != nil || back.Actor != e.Actor || back.Index != 0 || !back.Time.IsZero() {
			t.Errorf("%s: %+v, %v", kind, back, err)
		}
	}
	e := canonicalEntry(t)
	e.Body = jsontext.Value("{}")
	b, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	for extra, want := range map[int]bool{0: true, 1: false} {
		e.Body = jsontext.Value(`{"a":"` + strings.Repeat("x", MaxEntry-len(b)-len(`"a":""`)+extra) + `"}`)
		b, err := e.Encode()
		if (err == nil) != want || err != nil && !errors.Is(err, ErrTooLarge) || err == nil && len(b) != MaxEntry {
			t.Errorf("%d over: %d bytes, %v", extra, len(b), err)
		}
		if err == nil {
			if _, err := ParseEntry(b); err != nil {
				t.Error(err)
			}
		}
	}
	e = canonicalEntry(t)
	e.Index, e.Actor.Method = MaxSize-1, strings.Repeat("x", MaxName)
	if err := e.Validate(); err != nil {
		t.Errorf("the last entry that there can be: %v", err)
	}
}
