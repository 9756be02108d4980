package main

import (
	"bytes"
	"fmt"
	"io"
	"strings"

	"codeberg.org/go-pdf/fpdf"
	"golang.org/x/image/font/gofont/gobold"
	"golang.org/x/image/font/gofont/gomono"
	"golang.org/x/image/font/gofont/goregular"
	"golang.org/x/image/font/sfnt"

	"github.com/signetd/signet/api/trail"
)

const formatPDF = "pdf"

// maxPDF is how many entries a PDF holds: it is made in memory, and nobody reads more of it.
const maxPDF = 20_000

// pdfCopy is a copy as PDF: the same words as in HTML. The same entries give the same bytes: its dates are those of the last entry.
type pdfCopy struct {
	w      io.Writer
	reader trail.Reader
	pdf    *fpdf.Fpdf
	n      int
	fonts  map[string]*sfnt.Font
	buffer sfnt.Buffer
}

// The fonts, which the file carries: those of Go, for Latin, Greek and Cyrillic letters. What they do not have shows as its code point.
var pdfFonts = map[string][]byte{"text": goregular.TTF, "bold": gobold.TTF, "mono": gomono.TTF}

func newPDF(w io.Writer, h trail.Header) *pdfCopy {
	c := &pdfCopy{w: w, reader: trail.Reader{Attached: h.Attached}, pdf: fpdf.New("P", "mm", "A4", ""), fonts: map[string]*sfnt.Font{}}
	p := c.pdf
	p.SetCatalogSort(true)
	p.SetProducer("signet", true)
	p.SetTitle("Audit trail of "+h.Origin, true)
	p.SetLang("en")
	p.SetMargins(18, 16, 18)
	p.SetAutoPageBreak(true, 18)
	for _, name := range []string{"text", "bold", "mono"} {
		p.AddUTF8FontFromBytes(name, "", bytes.Clone(pdfFonts[name])) // it writes into them
		if f, err := sfnt.Parse(pdfFonts[name]); err == nil {
			c.fonts[name] = f
		}
	}
	p.AliasNbPages("{pages}")
	p.SetFooterFunc(func() {
		p.SetY(-12)
		c.font("text", 8)
		p.CellFormat(0, 4, fmt.Sprintf("Audit trail of %s, page %d of {pages}", c.shown("text", h.Origin), p.PageNo()), "", 0, "C", false, 0, "")
	})
	p.AddPage()
	c.font("bold", 15)
	p.MultiCell(0, 7, c.shown("bold", "Audit trail of "+h.Origin), "", "L", false)
	p.Ln(1)
	c.pairs(h.Lines(), 0, 38)
	return c
}

func (c *pdfCopy) font(name string, size float64) { c.pdf.SetFont(name, "", size) }

// shown is a text with the letters that a font does not have as code points.
func (c *pdfCopy) shown(font, s string) string {
	f := c.fonts[font]
	var b strings.Builder
	for _, r := range s {
		if i, err := f.GlyphIndex(&c.buffer, r); err != nil || i == 0 || r > 0xffff {
			fmt.Fprintf(&b, `\u{%x}`, r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// pairs writes names and values in two columns.
func (c *pdfCopy) pairs(list [][2]string, indent, names float64) {
	p := c.pdf
	const line = 4.1
	left, _, right, _ := p.GetMargins()
	width, height := p.GetPageSize()
	for _, pair := range list {
		if p.GetY() > height-18-line { // a name stays with its value
			p.AddPage()
		}
		y, page := p.GetY(), p.PageNo()
		p.SetX(left + indent)
		c.font("text", 8)
		p.MultiCell(names-2, line, c.shown("text", pair[0]), "", "L", false)
		after, afterPage := p.GetY(), p.PageNo()
		p.SetPage(page)
		p.SetXY(left+indent+names, y)
		c.font("mono", 7.5)
		p.MultiCell(width-left-right-indent-names, line, c.shown("mono", pair[1]), "", "L", false)
		if p.PageNo() < afterPage || p.PageNo() == afterPage && p.GetY() < after {
			p.SetPage(afterPage)
			p.SetY(after)
		}
	}
}

func (c *pdfCopy) Add(raw []byte) error {
	if c.n++; c.n > maxPDF {
		return usagef("a PDF holds %d entries at the most; narrow the search, or use --format html", maxPDF)
	}
	i, err := c.reader.Read(raw)
	if err != nil {
		return err
	}
	p := c.pdf
	_, height := p.GetPageSize()
	if p.GetY() > height-18-40 { // the head of an entry stays with its first lines
		p.AddPage()
	}
	p.SetCreationDate(i.Time.Time().UTC())
	p.SetModificationDate(i.Time.Time().UTC())
	left, _, right, _ := p.GetMargins()
	width, _ := p.GetPageSize()
	p.Ln(3)
	p.SetDrawColor(160, 160, 160)
	p.Line(left, p.GetY(), width-right, p.GetY())
	p.Ln(1.5)
	c.font("bold", 9.5)
	p.MultiCell(0, 5, fmt.Sprintf("%d   %s   %s", i.Index, i.When(), i.Type), "", "L", false)
	c.font("text", 9.5)
	p.MultiCell(0, 4.8, c.shown("text", i.What()), "", "L", false)
	p.Ln(0.8)
	c.pairs(i.Facts(), 0, 38)
	p.Ln(0.8)
	c.pairs(i.Details(), 4, 56)
	if signed := i.Signed(); len(signed) > 0 {
		p.Ln(0.8)
		c.font("text", 8)
		p.MultiCell(0, 4.1, trail.StatementTitle, "", "L", false)
		c.pairs(signed, 4, 56)
	}
	return p.Error()
}

func (c *pdfCopy) Close() error { return c.pdf.Output(c.w) }
