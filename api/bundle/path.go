package bundle

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

// cleanPath returns the one form of a path: relative, separated by slashes, in NFC, without a leading "./". It refuses what
// could mean two things, or lead out of the bundle.
func cleanPath(p string) (string, error) {
	for strings.HasPrefix(p, "./") {
		p = p[2:]
	}
	if !utf8.ValidString(p) {
		return "", errors.New("it is not UTF-8")
	}
	p = norm.NFC.String(p)
	switch {
	case p == "":
		return "", errors.New("it is empty")
	case len(p) > MaxPath:
		return "", fmt.Errorf("it has %d bytes; the limit is %d", len(p), MaxPath)
	case p[0] == '/':
		return "", errors.New("it is absolute")
	}
	for _, r := range p {
		switch {
		case r == '\\':
			return "", errors.New("it holds a backslash")
		case unicode.IsControl(r):
			return "", fmt.Errorf("it holds the control character %U", r)
		case !assigned(r):
			return "", fmt.Errorf("it holds %U, which Unicode %s does not assign", r, unicode.Version)
		}
	}
	for segment := range strings.SplitSeq(p, "/") {
		switch segment {
		case "":
			return "", errors.New("it has an empty segment")
		case ".", "..":
			return "", fmt.Errorf("it has the segment %q", segment)
		}
	}
	return p, nil
}

// assigned reports whether a code point is assigned, or for private use.
func assigned(r rune) bool {
	return unicode.In(r, unicode.L, unicode.M, unicode.N, unicode.P, unicode.S, unicode.Z, unicode.Cf, unicode.Co)
}

// fold is Unicode full case folding, in NFC.
func fold(s string) string { return norm.NFC.String(cases.Fold().String(norm.NFD.String(s))) }

// names finds paths that are the same, or would be on a file system that knows no case.
type names struct {
	folded map[string]string // folded path or folder → as it was written
	files  map[string]bool   // folded paths of files
}

func newNames() *names { return &names{folded: map[string]string{}, files: map[string]bool{}} }

// add takes the clean path of a file.
func (n *names) add(p string) error {
	for i := range len(p) + 1 {
		if i < len(p) && p[i] != '/' {
			continue
		}
		part := p[:i]
		f := fold(part)
		earlier, known := n.folded[f]
		switch {
		case known && earlier != part:
			return fmt.Errorf("%q and %q differ in case alone", part, earlier)
		case known && i == len(p) && n.files[f]:
			return errors.New("it stands there twice")
		case known && (i == len(p)) != n.files[f]:
			return fmt.Errorf("%q is both a file and a folder", part)
		}
		n.folded[f] = part
		if i == len(p) {
			n.files[f] = true
		}
	}
	return nil
}

// exclusions are what a bundle leaves out: exact paths, or folders with a slash at the end.
type exclusions struct {
	sorted  []string
	paths   map[string]bool
	folders []string
}

func newExclusions(list []string) (exclusions, error) {
	x := exclusions{sorted: []string{}, paths: map[string]bool{}}
	if len(list) > MaxExclusions {
		return x, fmt.Errorf("%d exclusions; the limit is %d", len(list), MaxExclusions)
	}
	for _, e := range list {
		p, err := cleanPath(strings.TrimSuffix(e, "/"))
		if err != nil {
			return x, fmt.Errorf("exclusion %q: %w", e, err)
		}
		if strings.HasSuffix(e, "/") {
			p += "/"
			x.folders = append(x.folders, p)
		} else {
			x.paths[p] = true
		}
		x.sorted = append(x.sorted, p)
	}
	slices.Sort(x.sorted)
	x.sorted = slices.Compact(x.sorted)
	return x, nil
}

// match reports whether a clean path is excluded.
func (x exclusions) match(p string) bool {
	return x.paths[p] || slices.ContainsFunc(x.folders, func(f string) bool { return strings.HasPrefix(p, f) })
}
