package main

import (
	"encoding/json/jsontext"
	"encoding/json/v2"
	"fmt"
	"io"
	"os"
	"reflect"
	"strings"
	"time"
	"unicode"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// printer writes for people: with colour and aligned tables on a terminal, plain otherwise.
type printer struct {
	w        io.Writer
	terminal bool
	colour   bool
}

func (a *app) printer(f *os.File) *printer {
	terminal := term.IsTerminal(int(f.Fd()))
	_, noColour := os.LookupEnv("NO_COLOR")
	return &printer{w: f, terminal: terminal, colour: terminal && !noColour && os.Getenv("TERM") != "dumb"}
}

// line writes one line, or several.
func (p *printer) line(format string, args ...any) { fmt.Fprintf(p.w, format+"\n", args...) }

func (p *printer) paint(c text.Color, s string) string {
	if !p.colour {
		return s
	}
	return c.EscapeSeq() + s + text.Reset.EscapeSeq()
}

func (p *printer) good(s string) string { return p.paint(text.FgGreen, s) }
func (p *printer) bad(s string) string  { return p.paint(text.FgRed, s) }
func (p *printer) warn(s string) string { return p.paint(text.FgYellow, s) }
func (p *printer) bold(s string) string { return p.paint(text.Bold, s) }

// pair is a name and what it stands for.
type pair struct{ name, value string }

// details writes pairs, aligned; those without a value are left out.
func (p *printer) details(pairs ...pair) {
	width := 0
	for _, x := range pairs {
		if x.value != "" {
			width = max(width, len(x.name))
		}
	}
	for _, x := range pairs {
		if x.value != "" {
			name := fmt.Sprintf("%-*s", width+2, x.name)
			value := strings.ReplaceAll(cleanText(x.value), "\n", "\n"+strings.Repeat(" ", width+2))
			p.line("%s%s", p.bold(name), value)
		}
	}
}

// table writes rows: aligned on a terminal, else separated by tabs.
func (p *printer) table(header []string, rows [][]string) {
	if !p.terminal {
		p.line("%s", strings.Join(header, "\t"))
		p.rows(rows)
		return
	}
	t := table.NewWriter()
	style := table.StyleDefault
	style.Options = table.OptionsNoBordersAndSeparators
	style.Box.PaddingLeft, style.Box.PaddingRight = "", "  "
	style.Format.Header = text.FormatDefault
	t.SetStyle(style)
	head := make(table.Row, len(header))
	for i, h := range header {
		head[i] = p.bold(h)
	}
	t.AppendHeader(head)
	for _, row := range rows {
		cells := make(table.Row, len(row))
		for i, cell := range row {
			cells[i] = clean(cell)
		}
		t.AppendRow(cells)
	}
	for line := range strings.Lines(t.Render()) {
		p.line("%s", strings.TrimRight(line, " \n"))
	}
}

// rows writes rows that come one after the other: separated by tabs, or by two blanks on a terminal.
func (p *printer) rows(rows [][]string) {
	separator := "\t"
	if p.terminal {
		separator = "  "
	}
	for _, row := range rows {
		cells := make([]string, len(row))
		for i, cell := range row {
			cells[i] = clean(cell)
		}
		p.line("%s", strings.Join(cells, separator))
	}
}

// print writes v as JSON where it was asked for, else what people gets.
func (a *app) print(v any, people func(p *printer)) error {
	if a.json {
		b, err := json.Marshal(v, json.Deterministic(true), jsontext.WithIndent("  "))
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(a.stdout, "%s\n", b)
		return err
	}
	people(a.printer(a.stdout))
	return nil
}

// notice tells people something beside the result. It goes to standard error, and nowhere with --json.
func (a *app) notice(format string, args ...any) {
	if !a.json {
		a.printer(a.stderr).line(format, args...)
	}
}

// dangerous are the characters that change how a terminal shows the text around them.
func dangerous(r rune) bool {
	switch {
	case r == 0x061C, r == 0x200E, r == 0x200F, r >= 0x202A && r <= 0x202E, r >= 0x2066 && r <= 0x2069, r == 0x2028, r == 0x2029, r == unicode.ReplacementChar:
		return true
	}
	return unicode.IsControl(r)
}

// clean makes a foreign text fit for one line of a terminal: what would steer the terminal is shown as \u….
func clean(s string) string { return cleanBut(s, "") }

// cleanText is clean for a text of several lines.
func cleanText(s string) string { return cleanBut(s, "\n") }

func cleanBut(s, keep string) string {
	if strings.IndexFunc(s, func(r rune) bool { return dangerous(r) && !strings.ContainsRune(keep, r) }) < 0 {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if dangerous(r) && !strings.ContainsRune(keep, r) {
			fmt.Fprintf(&b, `\u%04x`, r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// when is a time for people, in their own zone with its offset.
func when(t time.Time) string {
	if t.IsZero() || t.Unix() == 0 {
		return ""
	}
	return t.Local().Format("2006-01-02 15:04:05 -07:00")
}

// stamp is a time in JSON: RFC 3339, UTC, milliseconds; empty where there is none.
func stamp(t time.Time) string {
	if t.IsZero() || t.Unix() == 0 {
		return ""
	}
	return t.UTC().Format("2006-01-02T15:04:05.000Z")
}

// documentedKey marks commands whose --json is documented.
const documentedKey = "signet_json"

// documented adds the fields of v, a struct, to the help of a command, so that documentation and output come from the same source.
func documented(cmd *cobra.Command, v any) *cobra.Command {
	fields := jsonFields(reflect.TypeOf(v), "")
	if cmd.Long == "" {
		cmd.Long = cmd.Short + "."
	}
	cmd.Long += "\n\nFields of --json:\n" + fields
	if cmd.Annotations == nil {
		cmd.Annotations = map[string]string{}
	}
	cmd.Annotations[documentedKey] = fields
	return cmd
}

// jsonFields lists the fields of a struct with their documentation, nested ones with their path.
func jsonFields(t reflect.Type, path string) string {
	var b strings.Builder
	for f := range t.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "" || name == "-" {
			if f.Anonymous {
				b.WriteString(jsonFields(f.Type, path))
			}
			continue
		}
		inner, name := f.Type, path+name
		for inner.Kind() == reflect.Slice || inner.Kind() == reflect.Pointer {
			if inner.Kind() == reflect.Slice && inner.Elem().Kind() != reflect.Uint8 {
				name += "[]"
			}
			inner = inner.Elem()
		}
		fmt.Fprintf(&b, "  %-30s %s\n", name, f.Tag.Get("doc"))
		if inner.Kind() == reflect.Struct {
			b.WriteString(jsonFields(inner, name+"."))
		}
	}
	return b.String()
}

// jsonTopic documents the fields of all commands.
func jsonTopic(root *cobra.Command) *cobra.Command {
	topic := &cobra.Command{Use: "json", Short: "Fields of --json"}
	var b strings.Builder
	b.WriteString(`With --json a command prints one JSON object to standard output, and errors as {"error":{"message","reason","exit","next"}}
to standard error. Fields are never renamed or removed; new ones may be added. Times are RFC 3339 in UTC, digests lower-case
hex, what is not known is empty. "x[].y" is the field y of each element of the list x.
`)
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		if fields := cmd.Annotations[documentedKey]; fields != "" {
			b.WriteString("\n" + cmd.CommandPath() + "\n" + fields)
		}
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	walk(root)
	topic.Long = strings.TrimRight(b.String(), "\n")
	return topic
}
