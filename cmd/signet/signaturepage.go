package main

import (
	"bytes"
	"fmt"
	"html/template"
	"strconv"
	"strings"
	"time"

	"codeberg.org/go-pdf/fpdf"
	"github.com/boombuler/barcode/qr"
	"golang.org/x/image/font/sfnt"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/api/rfc3161"
)

// page is the signature page of a manifest (21 CFR 11.50): a block for each signature, with the printed name, the meaning, the reason, the time
// with its zone, the statement, and what it is about. It is a function of the manifest alone: the same manifest gives the same bytes.
type page struct {
	Title  string
	Demo   string // the environment, where it is not production
	Head   [][2]string
	Blocks []pageBlock
	Digest string    // of the content
	Code   [][]bool  // the same as a QR code, dark: true
	latest time.Time // of the signatures
}

// pageBlock is one signature.
type pageBlock struct {
	Title string
	Lines [][2]string
	Texts [][2]string // of several lines
}

// signaturePage reads a manifest that was verified.
func signaturePage(m manifest.Manifest) (*page, error) {
	r := m.Record
	digest, err := r.Digest()
	if err != nil {
		return nil, err
	}
	p := &page{Title: "Electronic signatures of " + clean(r.Name+" "+r.Version), Digest: digest.String()}
	if r.System.Environment != "production" {
		p.Demo = "Made in the environment " + clean(r.System.Environment) + ": no approval of a product."
	}
	p.Head = append(p.Head, [2]string{"Record", r.Name + " " + r.Version + " (" + r.Event.Type + ")"})
	add := func(name, value string) {
		if value != "" {
			p.Head = append(p.Head, [2]string{name, value})
		}
	}
	add("Title", r.Title)
	add("Event", r.Event.ID)
	add("Record digest", "SHA-256 "+digest.String())
	if m.HasBundle() {
		p.Digest = r.Bundle.Digest.SHA256.String()
		add("Content digest", "SHA-256 "+p.Digest+" ("+r.Bundle.Format+", "+files(int64(r.Bundle.Files))+", "+size(r.Bundle.Bytes)+")")
	}
	add("Source", strings.TrimSpace(r.Source.Repo+" "+r.Source.Commit+" "+r.Source.Tag))
	add("Policy", fmt.Sprintf("%s, version %d: %s must approve", r.Policy.Template.ID, r.Policy.Template.Version, r.Policy.Resolved.Needed()))
	add("Environment", r.System.Environment)
	add("System", r.System.Access)
	add("Software", r.System.Software)
	for i, s := range m.Signatures {
		b, at, err := pageSignature(i+1, s, m.Support)
		if err != nil {
			return nil, fmt.Errorf("signature %d: %w", i+1, err)
		}
		if p.Blocks = append(p.Blocks, b); at.After(p.latest) {
			p.latest = at
		}
	}
	for _, list := range append([][][2]string{p.Head}, blockLines(p.Blocks)...) {
		for i := range list {
			list[i][1] = clean(list[i][1])
		}
	}
	code, err := qr.Encode("sha256:"+p.Digest, qr.M, qr.Auto)
	if err != nil {
		return nil, err
	}
	side := code.Bounds().Dx()
	for y := range side {
		row := make([]bool, side)
		for x := range side {
			red, _, _, _ := code.At(x, y).RGBA()
			row[x] = red == 0
		}
		p.Code = append(p.Code, row)
	}
	return p, nil
}

func blockLines(blocks []pageBlock) [][][2]string {
	out := make([][][2]string, len(blocks))
	for i, b := range blocks {
		out[i] = b.Lines
	}
	return out
}

func pageSignature(n int, s manifest.Signature, support []manifest.Support) (pageBlock, time.Time, error) {
	st := s.Statement.Predicate
	token, err := rfc3161.Parse(s.Timestamps[0])
	if err != nil {
		return pageBlock{}, time.Time{}, err
	}
	entry, err := chain.ParseEntry(s.Ledger.Entry)
	if err != nil {
		return pageBlock{}, time.Time{}, err
	}
	who := "Signature"
	if !st.Signer.Person() {
		who = "Seal of a service"
	}
	b := pageBlock{Title: fmt.Sprintf("%s %d: %s", who, n, clean(st.Signer.Name))}
	add := func(name, value string) {
		if value != "" {
			b.Lines = append(b.Lines, [2]string{name, value})
		}
	}
	add("Printed name", st.Signer.Name)
	add("Title", st.Signer.Title)
	add("Organisation", st.Signer.Organisation)
	add("Date and time", manifest.LocalTime(manifest.NewTime(token.GenTime), st.Zone))
	add("Decision", st.Decision)
	add("Meaning", st.Meaning.Text+" ("+st.Meaning.ID+", version "+strconv.Itoa(st.Meaning.Version)+")")
	add("Proved by", string(s.Authorization.Kind))
	add("Signer id", st.Signer.ID)
	add("Key", s.Signature.Algorithm+" "+s.Signature.KeyID)
	add("Ledger", fmt.Sprintf("%s, entry %d", st.Ledger.Origin, entry.Index))
	if revoked := revokedLater(support, st.Signer.ID, s.Signature.KeyID, entry.Index); revoked != nil {
		add("Revoked later", fmt.Sprintf("%s, entry %d; the signature was made before, and stands", manifest.LocalTime(manifest.NewTime(revoked.Time.Time()), st.Zone), revoked.Index))
	}
	for _, subject := range s.Statement.Subject {
		add("Signed", subject.Name+", SHA-256 "+subject.Digest.SHA256.String())
	}
	for _, t := range [][2]string{{"Reason", st.Reason}, {"Statement", st.Statement}} {
		if t[1] != "" {
			b.Texts = append(b.Texts, [2]string{t[0], cleanText(t[1])})
		}
	}
	return b, token.GenTime, nil
}

// revokedLater finds the entry that has revoked a signer's key after a signature, among those that the manifest proves; nil if there is none.
func revokedLater(support []manifest.Support, signer, keyID string, after uint64) *chain.Entry {
	for _, s := range support {
		e, err := chain.ParseEntry(s.Entry)
		if err != nil || e.Type != chain.SignerRevoked && e.Type != chain.ServiceRevoked || e.Index < after {
			continue
		}
		if b, err := manifest.ParseSignerRevoked(e.Body); err == nil && b.ID == signer && (b.KeyID == "" || b.KeyID == keyID) {
			return &e
		}
	}
	return nil
}

// SVG is the QR code.
func (p *page) SVG() template.HTML {
	var path strings.Builder
	for y, row := range p.Code {
		for x, dark := range row {
			if dark {
				fmt.Fprintf(&path, "M%d %dh1v1h-1z", x, y)
			}
		}
	}
	side := len(p.Code)
	return template.HTML(fmt.Sprintf(`<svg role="img" aria-label="QR code of the digest" viewBox="-2 -2 %d %d" width="120" height="120"><path fill="#fff" d="M-2 -2h%dv%dh-%dz"/><path fill="#000" d="%s"/></svg>`,
		side+4, side+4, side+4, side+4, side+4, path.String()))
}

var pageHTML = template.Must(template.New("page").Parse(`<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width">
<title>{{.Title}}</title>
<style>
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif; }
body { max-width: 50rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; line-height: 1.2; } h2 { font-size: 1.1rem; margin: 0 0 .5rem; }
section { border: 1px solid color-mix(in srgb, currentColor 30%, transparent); border-radius: .4rem; padding: 1rem; margin: 1rem 0; break-inside: avoid; }
dl { display: grid; grid-template-columns: minmax(7rem, 10rem) 1fr; gap: .15rem 1rem; margin: 0; }
dt { opacity: .75; } dd { margin: 0; overflow-wrap: anywhere; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; font: inherit; margin: 0; }
.demo { border: 2px solid #b45309; padding: .5rem 1rem; border-radius: .4rem; }
.head { display: flex; flex-wrap: wrap; gap: 1.5rem; justify-content: space-between; } .head dl { flex: 1 1 28rem; }
</style>
<h1>{{.Title}}</h1>
{{with .Demo}}<p class="demo">{{.}}</p>{{end}}
<div class="head"><dl>{{range .Head}}<dt>{{index . 0}}</dt><dd>{{index . 1}}</dd>{{end}}</dl>{{.SVG}}</div>
{{range .Blocks}}<section><h2>{{.Title}}</h2>
<dl>{{range .Lines}}<dt>{{index . 0}}</dt><dd>{{index . 1}}</dd>{{end}}
{{range .Texts}}<dt>{{index . 0}}</dt><dd><pre>{{index . 1}}</pre></dd>{{end}}</dl>
</section>
{{end}}<p>This page shows what the signature manifest says. <code>signet verify</code> says whether it holds.</p>
</html>
`))

func (p *page) html() ([]byte, error) {
	var b bytes.Buffer
	err := pageHTML.Execute(&b, p)
	return b.Bytes(), err
}

func (p *page) pdf() ([]byte, error) {
	c := &pdfCopy{pdf: fpdf.New("P", "mm", "A4", ""), fonts: map[string]*sfnt.Font{}}
	f := c.pdf
	f.SetCatalogSort(true)
	f.SetProducer("signet", true)
	f.SetTitle(p.Title, true)
	f.SetLang("en")
	f.SetCreationDate(p.latest.UTC())
	f.SetModificationDate(p.latest.UTC())
	f.SetMargins(18, 16, 18)
	f.SetAutoPageBreak(true, 18)
	for _, name := range []string{"text", "bold", "mono"} {
		f.AddUTF8FontFromBytes(name, "", bytes.Clone(pdfFonts[name]))
		if parsed, err := sfnt.Parse(pdfFonts[name]); err == nil {
			c.fonts[name] = parsed
		}
	}
	f.AliasNbPages("{pages}")
	f.SetFooterFunc(func() {
		f.SetY(-12)
		c.font("text", 8)
		f.CellFormat(0, 4, fmt.Sprintf("%s, page %d of {pages}", c.shown("text", p.Title), f.PageNo()), "", 0, "C", false, 0, "")
	})
	f.AddPage()
	const code = 26.0 // millimetres
	width, _ := f.GetPageSize()
	p.draw(f, width-18-code, 16, code)
	f.SetRightMargin(18 + code + 4)
	c.font("bold", 15)
	f.MultiCell(0, 7, c.shown("bold", p.Title), "", "L", false)
	if p.Demo != "" {
		c.font("bold", 9.5)
		f.SetTextColor(180, 83, 9)
		f.MultiCell(0, 5, c.shown("bold", p.Demo), "", "L", false)
		f.SetTextColor(0, 0, 0)
	}
	f.Ln(1)
	c.pairs(p.Head[:min(3, len(p.Head))], 0, 32)
	f.SetRightMargin(18)
	f.SetY(max(f.GetY(), 16+code+2))
	c.pairs(p.Head[min(3, len(p.Head)):], 0, 32)
	for _, b := range p.Blocks {
		p.block(c, b)
	}
	f.Ln(3)
	c.font("text", 8)
	f.MultiCell(0, 4.1, "This page shows what the signature manifest says. `signet verify` says whether it holds.", "", "L", false)
	var out bytes.Buffer
	if err := f.Output(&out); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

func (p *page) block(c *pdfCopy, b pageBlock) {
	f := c.pdf
	_, height := f.GetPageSize()
	if f.GetY() > height-18-70 { // a signature stays together where it can
		f.AddPage()
	}
	width, _ := f.GetPageSize()
	f.Ln(3)
	f.SetDrawColor(160, 160, 160)
	f.Line(18, f.GetY(), width-18, f.GetY())
	f.Ln(1.5)
	c.font("bold", 11)
	f.MultiCell(0, 5.5, c.shown("bold", b.Title), "", "L", false)
	f.Ln(0.8)
	c.pairs(b.Lines, 0, 32)
	for _, t := range b.Texts {
		f.Ln(0.8)
		c.font("text", 8)
		f.MultiCell(0, 4.1, t[0], "", "L", false)
		c.font("text", 9.5)
		f.SetLeftMargin(22)
		f.SetX(22)
		f.MultiCell(0, 4.8, c.shownText(t[1]), "", "L", false)
		f.SetLeftMargin(18)
		f.SetX(18)
	}
}

// shownText is shown for a text of several lines.
func (c *pdfCopy) shownText(s string) string {
	lines := strings.Split(s, "\n")
	for i := range lines {
		lines[i] = c.shown("text", lines[i])
	}
	return strings.Join(lines, "\n")
}

// draw draws the QR code.
func (p *page) draw(f *fpdf.Fpdf, x, y, side float64) {
	unit := side / float64(len(p.Code))
	f.SetFillColor(0, 0, 0)
	for row, line := range p.Code {
		for column, dark := range line {
			if dark {
				f.Rect(x+float64(column)*unit, y+float64(row)*unit, unit*1.02, unit*1.02, "F")
			}
		}
	}
}
