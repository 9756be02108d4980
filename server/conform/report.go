package conform

import (
	"bytes"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"html/template"
)

// Files are the report: report.json for programs, and index.html for people. Both say the same.
func (r *Report) Files() (map[string][]byte, error) {
	machine, err := json.Marshal(r, json.Deterministic(true), jsontext.WithIndent("  "))
	if err != nil {
		return nil, err
	}
	var page bytes.Buffer
	if err := reportPage.Execute(&page, r); err != nil {
		return nil, err
	}
	return map[string][]byte{"report.json": append(machine, '\n'), "index.html": page.Bytes()}, nil
}

var reportPage = template.Must(template.New("report").Parse(`<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width">
<title>Conformance of {{.Origin}}</title>
<style>
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif; }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; } th, td { text-align: left; vertical-align: top; padding: .3rem .6rem; border-bottom: 1px solid color-mix(in srgb, currentColor 25%, transparent); }
dl { display: grid; grid-template-columns: 9rem 1fr; gap: .1rem 1rem; } dd { margin: 0; overflow-wrap: anywhere; }
.passed { color: light-dark(#166534, #4ade80); } .failed { color: light-dark(#b91c1c, #f87171); font-weight: bold; }
section { break-inside: avoid; border-top: 1px solid color-mix(in srgb, currentColor 25%, transparent); padding: .5rem 0; } li { overflow-wrap: anywhere; }
</style>
<h1>Conformance of {{.Origin}}</h1>
<dl><dt>Software</dt><dd>{{.Software}}</dd><dt>Environment</dt><dd>{{.Environment}}</dd><dt>Configuration</dt><dd>SHA-256 {{.Configuration}}</dd>
<dt>Run by</dt><dd>{{.By}}</dd><dt>Began</dt><dd>{{.Began}}</dd><dt>Ended</dt><dd>{{.Ended}}</dd></dl>
<p>What was done to the running service, and what was seen. A check that was not exercised has shown nothing. What the law asks of you, and not of a program,
is not in it.</p>
<h2>By clause of 21 CFR Part 11</h2>
<table><tr><th>Clause<th>Asks for<th>Result<th>Checks</tr>
{{range .Clauses}}<tr><td>{{.Clause}}<td>{{.Asks}}{{with .Remark}} <em>{{.}}</em>{{end}}<td class="{{.Verdict}}">{{.Verdict}}<td>{{range .Checks}}<a href="#{{.}}">{{.}}</a> {{end}}</tr>
{{end}}</table>
<h2>Checks</h2>
{{range .Checks}}<section id="{{.ID}}"><h3>{{.Title}}</h3>
<p><span class="{{.Verdict}}">{{.Verdict}}</span>. {{range .Clauses}}{{.}} {{end}} Entries {{.From}} to {{.To}} of the ledger.</p>
<p>Done:</p><ul>{{range .Done}}<li>{{.}}</li>{{end}}</ul><p>Seen:</p><ul>{{range .Seen}}<li>{{.}}</li>{{end}}</ul></section>
{{end}}</html>
`))
