package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/signetd/signet/api/verify"
)

// check is one thing that a verdict stands on.
type check struct {
	code  verify.Code
	title string
	shows string
}

// The checks, in the order in which people ask.
var (
	formCheck    = check{verify.Malformed, "form", "every document has the one encoding that its format allows"}
	contentCheck = check{verify.Content, "content", "the files are those that were signed: none changed, none missing, none added"}
	policyCheck  = check{verify.Policy, "policy", "enough of those who may decide have approved, nobody's rejection stands, and the record was closed over exactly these signatures"}

	signatureCheck = check{verify.Signature, "signature", "the key of the certificate signed exactly these words about exactly this record and bundle"}
	identityCheck  = check{verify.Untrusted, "identity", "a pinned root certified that key for this person, who proved themselves as the policy demands"}
	timeCheck      = check{verify.TimeNotProven, "time", "a pinned time-stamping authority vouches that it was signed then, while the statement was open for signature"}
	ledgerCheck    = check{verify.Ledger, "ledger", "it stands in the pinned ledger, after the head that the signer was shown, and the ledger binds every part of it"}
)

// state is what was found of a check.
type state int

const (
	unshown state = iota // it was not asked, or not to its end
	holds
	fails
)

// node is a part of the tree.
type node struct {
	state  state
	text   string
	faults []verify.Fault
	below  []node
}

// tree shows what holds, what does not, and what was not shown.
func (p *printer) tree(r *verify.Report, explain bool) {
	b := treeOf{r: r, left: r.Faults, explain: explain}
	p.line("")
	if r.Record.Event != "" {
		p.line("%s", p.bold(clean(r.Record.Name+" "+r.Record.Version)))
	} else {
		p.line("%s", p.bold("the manifest"))
	}
	p.branches("", b.nodes())
}

// branches writes nodes below one another.
func (p *printer) branches(indent string, nodes []node) {
	for i, n := range nodes {
		branch, below := "├─ ", "│  "
		if i == len(nodes)-1 {
			branch, below = "└─ ", "   "
		}
		mark := p.warn("–")
		switch n.state {
		case holds:
			mark = p.good("✓")
		case fails:
			mark = p.bad("✗")
		}
		p.line("%s%s%s %s", indent, branch, mark, clean(n.text))
		more := "   "
		if len(n.below) > 0 {
			more = "│  "
		}
		for _, f := range n.faults {
			p.line("%s%s%s%s %s", indent, below, more, p.bad("fault"), clean(f.String()))
		}
		p.branches(indent+below, n.below)
	}
}

// treeOf makes the tree of a report.
type treeOf struct {
	r       *verify.Report
	left    []verify.Fault // that have no place yet
	explain bool
}

// take returns the faults of a code, of any where it is 0, about a part.
func (b *treeOf) take(code verify.Code, where string) (found []verify.Fault) {
	var rest []verify.Fault
	for _, f := range b.left {
		if (code == 0 || f.Code == code) && strings.HasPrefix(f.Where, where) {
			found = append(found, f)
		} else {
			rest = append(rest, f)
		}
	}
	b.left = rest
	return found
}

// node is that of a check. fact says what was found, in short; why, why it was not asked.
func (b *treeOf) node(c check, ok bool, faults []verify.Fault, fact, why string, below ...node) node {
	n := node{text: c.title, faults: faults, below: below}
	say := func(text string) {
		if text != "" {
			n.text += ": " + text
		}
	}
	switch {
	case len(faults) > 0, slices.ContainsFunc(below, func(n node) bool { return n.state == fails }):
		n.state = fails
		if b.explain {
			say("it does not hold that " + c.shows)
		}
	case !ok:
		say(why)
	case b.explain:
		n.state = holds
		say(c.shows)
	default:
		n.state = holds
		say(fact)
	}
	return n
}

const unread = "not judged, because the input cannot be read"

func (b *treeOf) nodes() []node {
	r := b.r
	signatures := make([]node, len(r.Signatures))
	for i, s := range r.Signatures {
		signatures[i] = b.signature(i, s)
	}
	form := b.node(formCheck, true, b.take(verify.Malformed, ""), "", "")
	c, why := r.Content, "not compared with any file"
	switch {
	case form.state == fails:
		why = unread
	case !c.Bundle:
		why = "the record is about no bundle"
	}
	content := b.node(contentCheck, c.Checked && c.Matches, b.take(verify.Content, ""), files(int64(c.Files))+", "+size(c.Bytes), why)
	policy := b.node(policyCheck, r.Policy.Satisfied, b.take(verify.Policy, ""),
		fmt.Sprintf("%d of %d needed approvals, %d rejections", r.Policy.Approvals, r.Policy.K, r.Policy.Rejections), unread)
	nodes := append([]node{form, content}, signatures...)
	if len(b.left) > 0 {
		nodes = append(nodes, node{state: fails, text: "what they lean on", faults: b.left})
	}
	return append(nodes, policy)
}

// signature is the node of one signature.
func (b *treeOf) signature(i int, s verify.SignatureReport) node {
	n := node{text: fmt.Sprintf("signature %d: %s, %s", i+1, s.Name, s.Decision)}
	if s.Later {
		n.text += ", not judged; " + s.Why
		return n
	}
	why := "not shown, because something else failed"
	if !b.r.Judged() {
		why = unread
	}
	where := fmt.Sprintf("signatures[%d]", i)
	for _, c := range []struct {
		check
		ok   bool
		fact string
	}{
		{signatureCheck, s.Checks.Signature, s.Algorithm},
		{identityCheck, s.Checks.Identity, s.Signer + " by " + s.Authorization},
		{timeCheck, s.Checks.Time, s.Time},
		{ledgerCheck, s.Checks.Ledger, fmt.Sprintf("%s, entry %d of %d", s.Origin, s.Index, s.Size)},
	} {
		var stamps []node
		if c.code == verify.TimeNotProven && len(s.Timestamps) > 1 {
			stamps = b.stamps(where, s.Timestamps)
		}
		below := b.node(c.check, c.ok, b.take(c.code, where), c.fact, why, stamps...)
		if below.state == fails {
			n.state = fails
		}
		n.below = append(n.below, below)
	}
	n.faults = b.take(0, where)
	switch {
	case len(n.faults) > 0, b.r.Judged() && !s.Holds:
		n.state = fails
	case s.Holds && n.state != fails:
		n.state = holds
	}
	return n
}

// stamps are the nodes of a signature's time-stamps: each authority's word, and whether it holds.
func (b *treeOf) stamps(where string, stamps []verify.TimestampReport) []node {
	nodes := make([]node, len(stamps))
	for i, t := range stamps {
		nodes[i] = node{state: holds, text: fmt.Sprintf("time-stamp %d: %s", i+1, t.Says()), faults: b.take(verify.TimeNotProven, fmt.Sprintf("%s.timestamps[%d]", where, i))}
		if !t.Holds {
			nodes[i].state = fails
		}
	}
	return nodes
}
