package web_test

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	signetv1 "github.com/signetd/signet/api/signet/v1"
	"github.com/signetd/signet/server/servertest"
)

// structure finds what a screen reader or a keyboard would stumble over: it returns a list of faults.
const structure = `(() => {
	const faults = [];
	if (document.documentElement.lang !== "en") faults.push("no language");
	if (!document.title) faults.push("no title");
	if (document.querySelectorAll("h1").length !== 1) faults.push(document.querySelectorAll("h1").length + " first headings");
	if (document.querySelectorAll("main").length !== 1 || document.querySelectorAll("header").length !== 1) faults.push("no landmarks");
	let before = 1;
	for (const h of document.querySelectorAll("main h1, main h2, main h3")) {
		const level = Number(h.tagName[1]);
		if (level > before + 1) faults.push("the heading " + h.textContent + " skips a level");
		before = level;
	}
	const ids = new Set();
	for (const e of document.querySelectorAll("[id]")) { if (ids.has(e.id)) faults.push("the id " + e.id + " twice"); ids.add(e.id); }
	for (const e of document.querySelectorAll("input:not([type=hidden]), textarea, select")) {
		if (!e.labels || e.labels.length !== 1) faults.push(e.name + " has no label of its own");
		for (const id of (e.getAttribute("aria-describedby") || "").split(" ").filter(Boolean)) if (!ids.has(id)) faults.push(e.name + " is described by nothing: " + id);
	}
	for (const e of document.querySelectorAll("[aria-labelledby]")) if (!document.getElementById(e.getAttribute("aria-labelledby"))) faults.push("labelled by nothing: " + e.getAttribute("aria-labelledby"));
	for (const e of document.querySelectorAll("img")) if (!e.hasAttribute("alt")) faults.push("an image without alt");
	for (const e of document.querySelectorAll("a, button")) if (!e.textContent.trim()) faults.push("a link or button without words");
	for (const e of document.querySelectorAll("[tabindex]")) if (e.tabIndex > 0) faults.push("an order of its own: " + e.tagName);
	if (document.documentElement.scrollWidth > document.documentElement.clientWidth) faults.push("wider than the window by " + (document.documentElement.scrollWidth - document.documentElement.clientWidth));
	return faults;
})()`

// contrast measures each piece of text against what is behind it (WCAG 2.2, 1.4.3), and returns what is below 4.5.
const contrast = `(() => {
	const parse = (c) => { const m = c.match(/[\d.]+/g).map(Number); return { r: m[0], g: m[1], b: m[2], a: m.length > 3 ? m[3] : 1 }; };
	const lum = ({ r, g, b }) => { const f = (v) => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; }; return 0.2126 * f(r) + 0.7152 * f(g) + 0.0722 * f(b); };
	const behind = (e) => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor); if (c.a === 1) return c; } return { r: 255, g: 255, b: 255 }; };
	const faults = [];
	const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
	for (let n = walk.nextNode(); n; n = walk.nextNode()) {
		const e = n.parentElement;
		if (!n.data.trim() || e.closest(".skip, .hidden, noscript, script") || !e.checkVisibility()) continue;
		const a = lum(parse(getComputedStyle(e).color)), b = lum(behind(e));
		const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
		if (ratio < 4.5) faults.push(n.data.trim().slice(0, 40) + ": " + ratio.toFixed(2));
	}
	return faults;
})()`

// TestAccessibility looks at every page as a keyboard, a screen reader and weak eyes do: structure, names, contrast in both colour schemes, and
// nothing wider than a phone.
func TestAccessibility(t *testing.T) {
	t.Attr("requirement", "B-37")
	s := start(t)
	signed, open := s.release("v0.1.0"), s.release("v0.2.0")
	b := s.chromium()
	look := func(path string) {
		t.Helper()
		b.open(path)
		for _, width := range []int64{1100, 320} {
			b.do(chromedp.EmulateViewport(width, 800))
			for _, fault := range run(b, chromedp.Evaluate[[]string](structure)) {
				t.Errorf("%s, %d wide: %s", path, width, fault)
			}
		}
		for _, scheme := range []string{"light", "dark"} {
			b.do(b.scheme(scheme))
			for _, fault := range run(b, chromedp.Evaluate[[]string](contrast)) {
				t.Errorf("%s, %s: too little contrast: %s", path, scheme, fault)
			}
		}
		b.do(b.scheme(""), chromedp.ResetViewport())
		nodes := run(b, func(ctx context.Context, t *chromedp.Target) (accessibility.GetFullAXTreeResult, error) {
			return cdp.Call(ctx, t, accessibility.GetFullAXTree, accessibility.GetFullAXTreeParams{})
		})
		seen := 0
		for _, n := range nodes.Nodes {
			if n.Ignored || n.Role == nil {
				continue
			}
			switch role := strings.Trim(string(n.Role.Value), `"`); role {
			case "textbox", "button", "link", "checkbox", "radio", "combobox", "img", "image", "navigation", "form":
				seen++
				if name := n.Name; (name == nil || strings.Trim(string(name.Value), `" `) == "") && role != "form" {
					t.Errorf("%s: a %s without a name", path, role)
				}
			}
		}
		if seen == 0 {
			t.Errorf("%s: the accessibility tree is empty", path)
		}
	}
	look("/login")
	b.fill("user", "ada", "password", "wrong wrong wrong")
	b.send("main form button")
	if on := run(b, chromedp.Evaluate[string](`document.activeElement.getAttribute("role") + document.title`)); on != "alertError: Log in · Signet" {
		t.Errorf("after a problem the focus and the title are %q", on)
	}
	look("/enrol")
	b.picture("31-enrol")
	g := s.guest()
	g.login("ada")
	place := g.sign(g.prepare(signed.GetName(), approve, "All gates green."), "user", "ada", "password", servertest.Password).header.Get("Location")
	b.login("ada")
	for _, path := range s.everyPage(open.GetName(), g.prepare(open.GetName(), "reject:release-rejection", strings.Repeat("averyveryverylongword", 20)), place) {
		look(path)
		b.picture("40" + strings.ReplaceAll(pageName(path), "/", "-"))
	}
	b.open("/account/totp")
	b.fill("user", "ada", "password", servertest.Password)
	b.send("main form button")
	b.picture("30-totp-secret")
	if faults := run(b, chromedp.Evaluate[[]string](structure)); len(faults) > 0 {
		t.Errorf("the secret of one-time codes: %v", faults)
	}
}

// TestKeyboard signs a record without ever touching the mouse.
func TestKeyboard(t *testing.T) {
	t.Attr("requirement", "B-37")
	s := start(t)
	record := s.release("v0.1.0")
	b := s.chromium()
	focus := func() string {
		return run(b, chromedp.Evaluate[string](`(document.activeElement.id || document.activeElement.getAttribute("href") || document.activeElement.tagName) + ""`))
	}
	tab := func(to string) { // moves on until something has the focus
		t.Helper()
		for range 40 {
			if strings.HasSuffix(focus(), to) {
				return
			}
			b.do(chromedp.KeyEvent(kb.Tab))
		}
		t.Fatalf("%s cannot be reached by the keyboard on %s", to, b.path())
	}
	enter := func() {
		t.Helper()
		ctx, cancel := context.WithTimeout(b.ctx, limit)
		defer cancel()
		if _, err := chromedp.RunResponse(ctx, chromedp.KeyEvent(kb.Enter)); err != nil {
			t.Fatalf("%v: %s", err, b.text())
		}
		b.do(chromedp.WaitReady(chromedp.CSS("main")))
	}
	b.open("/login")
	b.do(chromedp.KeyEvent(kb.Tab))
	if focus() != "#main" {
		t.Errorf("the first stop is %s, want the link that skips to the content", focus())
	}
	tab("user")
	b.do(chromedp.KeyEvent("ada"))
	tab("password")
	b.do(chromedp.KeyEvent(servertest.Password))
	enter()
	tab("/" + record.GetName())
	enter()
	tab("/sign")
	enter()
	tab(fmt.Sprint("d-", approve))
	b.do(chromedp.KeyEvent(" "))
	tab("reason")
	b.do(chromedp.KeyEvent("All gates green."))
	tab("BUTTON")
	enter()
	tab("user")
	b.do(chromedp.KeyEvent("ada"))
	tab("password")
	b.do(chromedp.KeyEvent(servertest.Password))
	tab("BUTTON")
	enter()
	b.wants("Signed. Your signature is in the ledger", "I approve this release for distribution.")
}

var loaded = regexp.MustCompile(`(?:src|href)="(/static/[^"]+)"`)

// TestWeight weighs every page with everything that it loads.
func TestWeight(t *testing.T) {
	s := start(t)
	signed, open := s.release("v0.1.0", func(h *signetv1.RecordHeader) { h.Policy.Approvers = []string{"ada", "bob"} }), s.release("v0.2.0")
	g := s.guest()
	g.login("ada")
	place := g.sign(g.prepare(signed.GetName(), approve, "All gates green."), "user", "ada", "password", servertest.Password).header.Get("Location")
	for _, path := range append(s.everyPage(open.GetName(), g.prepare(open.GetName(), approve, "All gates green."), place), "/login", "/enrol") {
		asking := g
		if path == "/login" || path == "/enrol" {
			asking = s.guest()
		}
		page := asking.get(path)
		sum := len(page.body)
		for _, m := range loaded.FindAllStringSubmatch(page.body, -1) {
			file := asking.get(m[1])
			if file.status != http.StatusOK {
				t.Errorf("%s loads %s: %d", path, m[1], file.status)
			}
			sum += len(file.body)
		}
		t.Logf("%-60s %6d bytes, %6d with all that it loads", path, len(page.body), sum)
		if sum > 60_000 {
			t.Errorf("%s weighs %d bytes", path, sum)
		}
	}
}
