package main

import (
	"bytes"
	_ "embed"
	"html/template"
	"strings"
)

//go:embed matrix.html
var matrixPage string

var matrix = template.Must(template.New("matrix").Funcs(template.FuncMap{
	"class":  func(s State) string { return strings.ReplaceAll(string(s), " ", "-") },
	"states": func() []State { return states },
	"mark": func(s State) string { // the state never hangs on a colour alone
		return map[State]string{Passed: "✓", Failed: "✗", Skipped: "↷", NotRun: "…", NoTest: "–"}[s]
	},
}).Parse(matrixPage))

// HTML is the matrix as one page that needs nothing else.
func (i Index) HTML() ([]byte, error) {
	var b bytes.Buffer
	err := matrix.Execute(&b, i)
	return b.Bytes(), err
}
