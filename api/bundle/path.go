package bundle

import (
	"cmp"
	"errors"
	"slices"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
	"golang.org/x/text/unicode/rangetable"
)

// UnicodeVersion is the version of Unicode of signet-bundle/v1. It stays for ever: what that version assigns, later ones
// neither normalise nor fold otherwise (Unicode's stability policies), and what it doesn't assign is refused.
const UnicodeVersion = "17.0.0"

// assigned holds the code points of UnicodeVersion: letters to private use, without surrogates and noncharacters.
var assigned = sync.OnceValue(func() *unicode.RangeTable { return rangetable.Assigned(UnicodeVersion) })

// grapheme joiner is what golang.org/x/text puts into runs of more than 30 combining marks.
const graphemeJoiner = "\u034f"

// cleanPath returns the one form of a path: relative, separated by slashes, in NFC, without one leading "./". It refuses
// what could mean two things, or lead out of the bundle.
func cleanPath(raw string) (string, error) {
	if plain(raw) {
		return raw, nil
	}
	no := func(format string, args ...any) (string, error) { return "", refuse(ErrPath, raw, format, args...) }
	p := strings.TrimPrefix(raw, "./")
	switch {
	case p == "":
		return no("it is empty")
	case len(p) > 4*MaxPath: // NFC shortens to a third at the most
		return no("it has %d bytes; a path has %d at the most", len(p), MaxPath)
	case !utf8.ValidString(p):
		return no("it is not UTF-8")
	}
	if !isASCII(p) {
		n := norm.NFC.String(p)
		if strings.Count(n, graphemeJoiner) != strings.Count(p, graphemeJoiner) {
			return no("it has more than 30 combining marks in a row")
		}
		p = n
	}
	switch {
	case len(p) > MaxPath:
		return no("it has %d bytes; a path has %d at the most", len(p), MaxPath)
	case p[0] == '/' || len(p) > 2 && p[1] == ':' && p[2] == '/' && isLetter(p[0]):
		return no("it is absolute; a bundle has relative paths alone")
	}
	for _, r := range p {
		switch {
		case r == '\\':
			return no("it holds a backslash, which is a separator on some systems; rename it")
		case r >= ' ' && r < 0x7f:
		case unicode.IsControl(r), unicode.Is(unicode.Bidi_Control, r), r == 0x2028, r == 0x2029:
			return no("it holds the control character %U; rename it", r)
		case !unicode.Is(assigned(), r):
			return no("it holds %U, which Unicode %s does not assign; rename it", r, UnicodeVersion)
		}
	}
	for segment := range strings.SplitSeq(p, "/") {
		switch segment {
		case "":
			return no("it has an empty segment")
		case ".", "..":
			return no("it has the segment %q; paths of a bundle are plain", segment)
		}
	}
	return p, nil
}

// plain reports whether a path is certainly in its one form, from one look at its bytes: most are.
func plain(p string) bool {
	if len(p) == 0 || len(p) > MaxPath || len(p) > 2 && p[1] == ':' && p[2] == '/' {
		return false
	}
	from := 0 // where the segment begins
	for i := 0; i <= len(p); i++ {
		switch {
		case i == len(p) || p[i] == '/':
			if n := i - from; n == 0 || p[from] == '.' && (n == 1 || n == 2 && p[from+1] == '.') {
				return false
			}
			from = i + 1
		case p[i] < ' ' || p[i] >= 0x7f || p[i] == '\\':
			return false
		}
	}
	return true
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

func isLetter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }

// folder folds the case of paths. It is for one goroutine.
type folder struct{ caser cases.Caser }

func newFolder() folder { return folder{caser: cases.Fold()} }

// fold returns the same text for all paths that are a canonical caseless match (Unicode, D145): full case folding between
// two normalisations.
func (f folder) fold(p string) string {
	if isASCII(p) {
		return strings.ToLower(p)
	}
	return norm.NFD.String(f.caser.String(strings.Map(cherokee, norm.NFD.String(p))))
}

// cherokee maps small Cherokee letters to the capital ones, as CaseFolding.txt does. golang.org/x/text/cases maps each of
// the two to the other, so that they never meet.
func cherokee(r rune) rune {
	switch {
	case 0xab70 <= r && r <= 0xabbf:
		return r - 0xab70 + 0x13a0
	case 0x13f8 <= r && r <= 0x13fd:
		return r - 8
	}
	return r
}

// checkClashes refuses n clean paths of files two of which are the same, differ in case alone, in themselves or in one of
// their folders, or are a file here and a folder there.
//
// Sorted segment by segment, all that share a folded folder stand together, so that neighbours tell everything. Time
// and memory stay linear in the size of the paths (times a logarithm), however deep a hostile list nests them.
func checkClashes(n int, path func(i int) string) error {
	if noClash(n, path) {
		return nil
	}
	type key struct{ folded, path string }
	keys := make([]key, n)
	f := newFolder()
	for i := range n {
		p := path(i)
		keys[i] = key{f.fold(p), p}
	}
	byFolder := func(a, b key) int {
		if c := compareSegments(a.folded, b.folded); c != 0 {
			return c
		}
		return strings.Compare(a.path, b.path)
	}
	if !slices.IsSortedFunc(keys, byFolder) { // sorted paths mostly are
		slices.SortFunc(keys, byFolder)
	}
	for i := 1; i < len(keys); i++ {
		if err := checkNeighbours(keys[i-1].folded, keys[i-1].path, keys[i].folded, keys[i].path); err != nil {
			return err
		}
	}
	return nil
}

// noClash reports whether paths certainly do not clash: they are their own folded form, and stand segment by segment in their order already.
func noClash(n int, path func(i int) string) bool {
	last := ""
	for i := range n {
		p := path(i)
		for j := range len(p) {
			if c := p[j]; 'A' <= c && c <= 'Z' || c >= utf8.RuneSelf {
				return false
			}
		}
		if i > 0 && (compareSegments(last, p) >= 0 || len(p) > len(last) && p[len(last)] == '/' && p[:len(last)] == last) {
			return false
		}
		last = p
	}
	return true
}

// compareSegments compares paths as if a slash came before every other character: a folder comes right before what lies in it.
func compareSegments(a, b string) int {
	n := min(len(a), len(b))
	for i := range n {
		if x, y := a[i], b[i]; x != y {
			switch {
			case x == '/':
				return -1
			case y == '/':
				return 1
			}
			return cmp.Compare(x, y)
		}
	}
	return cmp.Compare(len(a), len(b))
}

// checkNeighbours compares two paths as far as their folded segments agree; a sorts before b.
func checkNeighbours(foldedA, a, foldedB, b string) error {
	if a == b {
		return refuse(ErrClash, b, "it stands there twice")
	}
	end := 0 // of the segments that were compared, in a and in b
	for {
		fa, restA, moreA := strings.Cut(foldedA, "/")
		fb, restB, moreB := strings.Cut(foldedB, "/")
		if fa != fb {
			return nil
		}
		endA, endB := segmentEnd(a, end), segmentEnd(b, end)
		if a[:endA] != b[:endB] {
			return refuse(ErrClash, b, "%q and %q differ in case alone; on some file systems they are one: rename one of them",
				a[:endA], b[:endB])
		}
		if !moreA || !moreB {
			return refuse(ErrClash, b, "%q is a file here and a folder there", a[:endA])
		}
		foldedA, foldedB, end = restA, restB, endA+1
	}
}

// segmentEnd is where the segment that begins at from ends.
func segmentEnd(p string, from int) int {
	if i := strings.IndexByte(p[from:], '/'); i >= 0 {
		return from + i
	}
	return len(p)
}

// exclusions are what a bundle leaves out: exact paths, or folders with a slash at the end.
type exclusions struct {
	sorted []string // as they stand in the document
	exact  matcher
	folded matcher
	folder folder
}

// newExclusions reads a list in any order; one that stands there twice counts once.
func newExclusions(list []string) (exclusions, error) {
	x := exclusions{sorted: []string{}, folder: newFolder()}
	if len(list) > MaxExclusions {
		return x, refuse(ErrTooLarge, list[MaxExclusions], "%d exclusions; there may be %d", len(list), MaxExclusions)
	}
	for _, e := range list {
		name, isFolder := strings.CutSuffix(e, "/")
		p, err := cleanPath(name)
		if err != nil {
			why := err
			if pe, ok := errors.AsType[*PathError](err); ok {
				return x, refuse(ErrPath, e, "as an exclusion: %s", pe.Why)
			}
			return x, why
		}
		if isFolder {
			p += "/"
		}
		x.sorted = append(x.sorted, p)
	}
	slices.Sort(x.sorted)
	x.sorted = slices.Compact(x.sorted)
	var folded []string
	for _, e := range x.sorted {
		folded = append(folded, x.folder.fold(e))
	}
	slices.Sort(folded)
	x.exact, x.folded = newMatcher(x.sorted), newMatcher(folded)
	return x, nil
}

// match reports whether a clean path is excluded, and refuses one that is in all but its case. A folder is asked for with a
// slash at its end.
func (x exclusions) match(p string) (bool, error) {
	if len(x.sorted) == 0 {
		return false, nil
	}
	if x.exact.match(p) {
		return true, nil
	}
	if x.folded.match(x.folder.fold(p)) {
		return false, refuse(ErrClash, p, "it is excluded in all but its case; write the exclusion exactly as the path")
	}
	return false, nil
}

// matcher finds the paths and folders of a sorted list.
type matcher struct {
	paths   map[string]bool
	folders []string // sorted, none of them inside of another
}

func newMatcher(sorted []string) matcher {
	m := matcher{paths: map[string]bool{}}
	for _, e := range sorted {
		if !strings.HasSuffix(e, "/") {
			m.paths[e] = true
		} else if n := len(m.folders); n == 0 || !strings.HasPrefix(e, m.folders[n-1]) {
			m.folders = append(m.folders, e)
		}
	}
	return m
}

func (m matcher) match(p string) bool {
	if len(m.paths) > 0 && m.paths[p] {
		return true
	}
	// What sorts between a folder and a path in it lies in the folder too, and so is not in the list.
	i, found := slices.BinarySearch(m.folders, p)
	return found || i > 0 && strings.HasPrefix(p, m.folders[i-1])
}
