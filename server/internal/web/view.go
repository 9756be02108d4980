package web

import (
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"path"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/signetd/signet/api/manifest"
	signetv1 "github.com/signetd/signet/api/signet/v1"
)

//go:embed templates static
var files embed.FS

// page is what the frame of every page shows, and its body.
type page struct {
	*site
	Title   string
	Me      *signetv1.Signer // nil: nobody is logged in
	Form    string           // token of the page's forms
	Path    string
	Problem *problem
	Done    string // what was done a moment ago
	Refresh string // a path that the browser goes on to by itself
	Script  bool   // the page asks for a passkey
	Body    any
}

// Field reports whether a field is the one that was refused.
func (p page) Field(name string) bool { return p.Problem != nil && p.Problem.Field == name }

// Is reports whether a path belongs to the part of the site that the navigation names.
func (p page) Is(part string) bool { return p.Path == part || strings.HasPrefix(p.Path, part+"/") }

// Asset is the path of a file under its content's name, so that browsers may keep it.
func (s *site) Asset(name string) string { return s.assets[name].path }

// Administers reports whether somebody's roles include looking after other people.
func (p page) Administers() bool { return hasRole(p.Me, signetv1.Role_ROLE_ADMINISTRATOR) }

// Signs reports whether somebody's roles include signing.
func (p page) Signs() bool { return hasRole(p.Me, signetv1.Role_ROLE_SIGNER) }

func hasRole(s *signetv1.Signer, role signetv1.Role) bool {
	for _, r := range s.GetRoles() {
		if r == role {
			return true
		}
	}
	return false
}

// loadPages reads the templates: one for each page, with the frame around it.
func (s *site) loadPages() (map[string]*template.Template, error) {
	frame, err := template.New("frame.html").Funcs(template.FuncMap{
		"hex": hex.EncodeToString, "when": when, "decision": decisionWord, "decided": decidedWord, "state": stateWord, "role": roleWord, "size": size,
		"components": components, "each": func(approver string) string { return manifest.Approver{ID: approver}.Each() }, "last": last, "plural": plural, "passkeyState": passkeyWord, "passkeyPath": passkeyPath,
		"device": device, "isLast": func(i, n int) bool { return i == n-1 }, "time": timeOf,
	}).ParseFS(files, "templates/frame.html", "templates/parts.html")
	if err != nil {
		return nil, err
	}
	names, err := fs.Glob(files, "templates/*.html")
	if err != nil {
		return nil, err
	}
	pages := map[string]*template.Template{}
	for _, name := range names {
		base := strings.TrimSuffix(path.Base(name), ".html")
		if base == "frame" || base == "parts" {
			continue
		}
		one, err := frame.Clone()
		if err != nil {
			return nil, err
		}
		if pages[base], err = one.ParseFS(files, name); err != nil {
			return nil, err
		}
	}
	return pages, nil
}

// asset is a file that never changes under its name.
type asset struct {
	path, kind string
	content    []byte
}

func loadAssets() (map[string]asset, error) {
	kinds := map[string]string{".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
	entries, err := fs.ReadDir(files, "static")
	if err != nil {
		return nil, err
	}
	out := map[string]asset{}
	for _, e := range entries {
		b, err := fs.ReadFile(files, "static/"+e.Name())
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256(b)
		ext := path.Ext(e.Name())
		name := strings.TrimSuffix(e.Name(), ext) + "-" + base64.RawURLEncoding.EncodeToString(sum[:9]) + ext
		out[e.Name()] = asset{path: "/static/" + name, kind: kinds[ext], content: b}
	}
	return out, nil
}

func (s *site) asset(v *visit) error {
	for _, a := range s.assets {
		if a.path != v.r.URL.Path {
			continue
		}
		h := v.w.Header()
		h.Set("Content-Type", a.kind)
		h.Set("Content-Length", strconv.Itoa(len(a.content)))
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
		v.w.WriteHeader(http.StatusOK)
		v.write(a.content)
		return nil
	}
	return &refusal{status: http.StatusNotFound, title: "Not found", text: "There is no such file."}
}

// moment is a time as people read it, and as programs do.
type moment struct{ Machine, UTC, Local string }

// when is a time in UTC, and in a person's zone where that is known.
func when(t time.Time, zone string) moment {
	if t.IsZero() {
		return moment{}
	}
	t = t.UTC()
	m := moment{Machine: t.Format("2006-01-02T15:04:05.000Z"), UTC: t.Format("2 January 2006, 15:04:05") + " UTC"}
	if l, err := time.LoadLocation(zone); err == nil && zone != "" && zone != "UTC" {
		local := t.In(l)
		layout := "15:04:05"
		if local.YearDay() != t.YearDay() {
			layout = "2 January, 15:04:05"
		}
		m.Local = local.Format(layout) + " in " + zone
	}
	return m
}

func timeOf(t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.AsTime()
}

var decisions = []struct {
	value         signetv1.Decision
	word, decided string
}{
	{signetv1.Decision_DECISION_APPROVE, "approve", "approved"},
	{signetv1.Decision_DECISION_REJECT, "reject", "rejected"},
	{signetv1.Decision_DECISION_ABSTAIN, "abstain", "abstained"},
	{signetv1.Decision_DECISION_REVIEW, "review", "reviewed"},
	{signetv1.Decision_DECISION_AUTHOR, "author", "signed as its author"},
	{signetv1.Decision_DECISION_WITHDRAW, "withdraw", "withdrew their decision"},
	{signetv1.Decision_DECISION_SEAL, "seal", "sealed"},
}

func decisionWord(d signetv1.Decision) string {
	for _, x := range decisions {
		if x.value == d {
			return x.word
		}
	}
	return ""
}

func decidedWord(d signetv1.Decision) string {
	for _, x := range decisions {
		if x.value == d {
			return x.decided
		}
	}
	return "not decided yet"
}

func stateWord(s signetv1.RecordState) string {
	switch s {
	case signetv1.RecordState_RECORD_STATE_OPEN:
		return "open"
	case signetv1.RecordState_RECORD_STATE_APPROVED:
		return "approved"
	case signetv1.RecordState_RECORD_STATE_REJECTED:
		return "rejected"
	case signetv1.RecordState_RECORD_STATE_WITHDRAWN:
		return "withdrawn"
	case signetv1.RecordState_RECORD_STATE_SUPERSEDED:
		return "superseded"
	}
	return "unknown"
}

func passkeyWord(s signetv1.PasskeyState) string {
	switch s {
	case signetv1.PasskeyState_PASSKEY_STATE_PENDING:
		return "waits to be vouched for"
	case signetv1.PasskeyState_PASSKEY_STATE_BOUND:
		return "signs"
	case signetv1.PasskeyState_PASSKEY_STATE_REVOKED:
		return "revoked"
	}
	return "unknown"
}

func roleWord(r signetv1.Role) string {
	return strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(r.String(), "ROLE_")), "_", " ")
}

// components says in words what an authorization kind asks for.
func components(kind string) string {
	words := map[string]string{"password": "user name and password", "totp": "a one-time code", "passkey": "a passkey", "service": "a client certificate"}
	var parts []string
	for p := range strings.SplitSeq(kind, "+") {
		if w, ok := words[p]; ok {
			parts = append(parts, w)
		} else {
			parts = append(parts, p)
		}
	}
	return strings.Join(parts, ", and ")
}

// size is a number of bytes as people read it.
func size(n int64) string {
	switch {
	case n < 1000:
		return plural(n, "byte")
	case n < 1_000_000:
		return fmt.Sprintf("%.1f kB", float64(n)/1e3)
	case n < 1_000_000_000:
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	}
	return fmt.Sprintf("%.1f GB", float64(n)/1e9)
}

func plural(n any, word string) string {
	s := fmt.Sprint(n)
	if s == "1" {
		return s + " " + word
	}
	return s + " " + word + "s"
}

// last is the last part of a resource name.
func last(name string) string { return path.Base(name) }

// device is what a browser says of itself, in the few words that people know it by; anything else as it is.
func device(agent string) string {
	if !strings.HasPrefix(agent, "Mozilla/") {
		return agent
	}
	find := func(of [][2]string) string {
		for _, x := range of {
			if strings.Contains(agent, x[0]) {
				return x[1]
			}
		}
		return ""
	}
	browser := find([][2]string{{"Edg/", "Edge"}, {"OPR/", "Opera"}, {"Firefox/", "Firefox"}, {"FxiOS/", "Firefox"}, {"Chrome/", "Chrome"}, {"CriOS/", "Chrome"}, {"Safari/", "Safari"}})
	system := find([][2]string{{"Android", "Android"}, {"iPhone", "iPhone"}, {"iPad", "iPad"}, {"Windows", "Windows"}, {"Mac OS X", "macOS"}, {"CrOS", "ChromeOS"}, {"Linux", "Linux"}})
	if browser == "" || system == "" {
		return agent
	}
	return browser + " on " + system
}
