package trail

import (
	"encoding/csv"
	"errors"
	"fmt"
	"html/template"
	"io"
	"strconv"
	"strings"

	"github.com/signetd/signet/api/chain"
)

// Format is a kind of copy.
type Format string

// The formats.
const (
	Text  Format = "text"
	CSV   Format = "csv"
	JSONL Format = "jsonl"
	HTML  Format = "html"
)

// ErrFormat says that there is no such format.
var ErrFormat = errors.New("unknown format; use text, csv, jsonl or html")

// Header stands at the beginning of a copy.
type Header struct {
	Origin     string            // of the ledger
	Selection  string            // which entries were asked for, in words; empty: all
	Checkpoint *chain.Checkpoint // verified, that covers the entries; nil: none is known
	// Attached returns attachments, see [Reader]: with it, copies show what was signed. It may be nil.
	Attached func(digest chain.Hash) []byte
}

// Columns are those of CSV.
var Columns = []string{"index", "time", "type", "actor", "actor_kind", "method", "session", "source", "what", "reason", "body", "request", "prev", "leaf_hash", "statement"}

// Writer makes a copy of entries, in the order in which they are added. It does not keep them.
type Writer interface {
	// Add appends an entry.
	Add(raw []byte) error
	// Close ends the copy; it does not close what it is written to.
	Close() error
}

// New begins a copy.
func New(f Format, w io.Writer, h Header) (Writer, error) {
	switch f {
	case Text:
		return newText(w, h)
	case CSV:
		return newCSV(w, h)
	case JSONL:
		return &jsonl{w: w}, nil
	case HTML:
		return newHTML(w, h)
	}
	return nil, fmt.Errorf("%w: %q", ErrFormat, f)
}

// Lines are what a header says.
func (h Header) Lines() [][2]string {
	lines := [][2]string{{"Ledger", clean(h.Origin)}, {"Entries", "all"}}
	if h.Selection != "" {
		lines[1][1] = clean(h.Selection)
	}
	if h.Checkpoint == nil {
		return append(lines, [2]string{"Checkpoint", "none was verified: nothing here proves that these entries are in a ledger"})
	}
	return append(lines, [2]string{"Checkpoint", fmt.Sprintf("%d entries, root %s", h.Checkpoint.Size, h.Checkpoint.Root)})
}

// Facts are what an item says beside its sentence and body.
func (i Item) Facts() [][2]string {
	facts := [][2]string{{"Who", i.Who + ", " + string(i.Actor.Kind)}}
	add := func(name, value string) {
		if value != "" {
			facts = append(facts, [2]string{name, value})
		}
	}
	add("Proved by", i.Actor.Method)
	add("Session", i.Actor.Session)
	add("Source", i.Actor.Source)
	add("Why", i.Reason)
	add("Request", i.Request)
	add("Entry before", i.Prev.String())
	add("Leaf hash", i.Leaf.String())
	for n := range facts {
		facts[n][1] = clean(facts[n][1])
	}
	return facts
}

// When is the time as people read it: UTC, with milliseconds.
func (i Item) When() string {
	return i.Time.Time().UTC().Format("2006-01-02 15:04:05.000") + " UTC"
}

// What is the sentence, fit for a line.
func (i Item) What() string { return clean(i.Sentence) }

// Details are the members of the body, fit for lines.
func (i Item) Details() [][2]string { return details(i.Body) }

// Signed are the members of the statement, fit for lines; none if it is not at hand.
func (i Item) Signed() [][2]string { return details(i.Statement) }

func details(list []Field) [][2]string {
	out := make([][2]string, len(list))
	for n, f := range list {
		out[n] = [2]string{clean(f.Path), clean(f.Value)}
		if f.Value == "" {
			out[n][1] = "(empty)"
		}
	}
	return out
}

// StatementTitle stands above the members of a statement.
const StatementTitle = "Statement (attached to the entry, which names its SHA-256)"

type text struct {
	reader Reader
	w      io.Writer
}

func newText(w io.Writer, h Header) (*text, error) {
	var b strings.Builder
	for _, l := range h.Lines() {
		fmt.Fprintf(&b, "%-12s %s\n", l[0], l[1])
	}
	_, err := io.WriteString(w, b.String())
	return &text{reader: Reader{Attached: h.Attached}, w: w}, err
}

func (t *text) Add(raw []byte) error {
	i, err := t.reader.Read(raw)
	if err != nil {
		return err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "\n%d  %s  %s\n  %s\n", i.Index, i.When(), i.Type, i.What())
	for _, f := range i.Facts() {
		fmt.Fprintf(&b, "  %-14s %s\n", f[0], f[1])
	}
	for _, f := range i.Details() {
		fmt.Fprintf(&b, "    %s: %s\n", f[0], f[1])
	}
	if signed := i.Signed(); len(signed) > 0 {
		fmt.Fprintf(&b, "  %s\n", StatementTitle)
		for _, f := range signed {
			fmt.Fprintf(&b, "    %s: %s\n", f[0], f[1])
		}
	}
	_, err = io.WriteString(t.w, b.String())
	return err
}

func (t *text) Close() error { return nil }

type commas struct {
	reader Reader
	w      *csv.Writer
}

func newCSV(w io.Writer, h Header) (*commas, error) {
	c := &commas{reader: Reader{Attached: h.Attached}, w: csv.NewWriter(w)}
	c.w.UseCRLF = true
	return c, c.w.Write(Columns)
}

func (c *commas) Add(raw []byte) error {
	i, err := c.reader.Read(raw)
	if err != nil {
		return err
	}
	e, err := chain.ParseEntry(raw)
	if err != nil {
		return err
	}
	record := []string{strconv.FormatUint(i.Index, 10), i.Time.String(), string(i.Type), i.Actor.ID, string(i.Actor.Kind), i.Actor.Method, i.Actor.Session,
		i.Actor.Source, i.Sentence, i.Reason, string(e.Body), i.Request, i.Prev.String(), i.Leaf.String(), string(i.statement)}
	for n, v := range record {
		record[n] = harmless(v)
	}
	if err := c.w.Write(record); err != nil {
		return err
	}
	c.w.Flush() // who follows the ledger sees each entry at once
	return c.w.Error()
}

// harmless puts a ' before what a spreadsheet would take for a formula.
func harmless(s string) string {
	if s != "" && strings.ContainsRune("=+-@\t\r", rune(s[0])) {
		return "'" + s
	}
	return s
}

func (c *commas) Close() error {
	c.w.Flush()
	return c.w.Error()
}

type jsonl struct{ w io.Writer }

func (j *jsonl) Add(raw []byte) error {
	if _, err := chain.ParseEntry(raw); err != nil {
		return err
	}
	_, err := j.w.Write(append(append(make([]byte, 0, len(raw)+1), raw...), '\n'))
	return err
}

func (j *jsonl) Close() error { return nil }

// StatementTitle is [StatementTitle].
func (i Item) StatementTitle() string { return StatementTitle }

type page struct {
	reader Reader
	w      io.Writer
}

func newHTML(w io.Writer, h Header) (*page, error) {
	return &page{reader: Reader{Attached: h.Attached}, w: w}, templatesHTML.ExecuteTemplate(w, "head", h)
}

func (p *page) Add(raw []byte) error {
	i, err := p.reader.Read(raw)
	if err != nil {
		return err
	}
	return templatesHTML.ExecuteTemplate(p.w, "entry", i)
}

func (p *page) Close() error { return templatesHTML.ExecuteTemplate(p.w, "foot", nil) }

var templatesHTML = template.Must(template.New("").Parse(`{{define "head"}}<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>Audit trail of {{.Origin}}</title>
<style>
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; line-height: 1.2; }
article { border-top: 1px solid #8888; padding: .75rem 0; break-inside: avoid-page; }
h2 { font-size: 1rem; margin: 0; }
h2 .no { display: inline-block; min-width: 3.5rem; font-variant-numeric: tabular-nums; }
h2 time { font-weight: 400; font-variant-numeric: tabular-nums; }
h1 + dl { margin-bottom: 1rem; }
h2 code { margin-left: .75rem; }
h3 { font-size: .875rem; font-weight: 600; margin: .6rem 0 0; }
h2 code { font-weight: 400; opacity: .75; }
.what { margin: .25rem 0 .5rem; overflow-wrap: anywhere; }
dl { display: grid; grid-template-columns: minmax(8rem, 14rem) 1fr; gap: .1rem 1rem; margin: 0; font-size: .875rem; }
dt { opacity: .75; overflow-wrap: anywhere; }
dd { margin: 0; overflow-wrap: anywhere; font-family: ui-monospace, monospace; }
dl.body { margin-top: .4rem; padding-left: .75rem; border-left: 3px solid #8886; }
@media (max-width: 36rem) { dl { grid-template-columns: 1fr; } dt { margin-top: .25rem; } }
@media print { body { margin: 0; max-width: none; font-size: 10pt; } }
</style>
</head>
<body>
<main>
<h1>Audit trail of {{.Origin}}</h1>
<dl>
{{range .Lines}}<dt>{{index . 0}}</dt><dd>{{index . 1}}</dd>
{{end}}</dl>
{{end}}{{define "entry"}}<article id="entry-{{.Index}}">
<h2><span class="no">{{.Index}}</span> <time datetime="{{.Time}}">{{.When}}</time> <code>{{.Type}}</code></h2>
<p class="what">{{.What}}</p>
<dl>
{{range .Facts}}<dt>{{index . 0}}</dt><dd>{{index . 1}}</dd>
{{end}}</dl>
<dl class="body">
{{range .Details}}<dt>{{index . 0}}</dt><dd>{{index . 1}}</dd>
{{end}}</dl>
{{with .Signed}}<h3>{{$.StatementTitle}}</h3>
<dl class="body">
{{range .}}<dt>{{index . 0}}</dt><dd>{{index . 1}}</dd>
{{end}}</dl>
{{end}}</article>
{{end}}{{define "foot"}}</main>
</body>
</html>
{{end}}`))
