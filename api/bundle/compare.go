package bundle

// Kinds of a [Difference].
const (
	Changed = "changed" // other content
	Missing = "missing" // listed, but not there
	Extra   = "extra"   // there, but not listed
)

// Difference is one file that is not as it should be.
type Difference struct {
	Path string `json:"path"`
	Kind string `json:"kind"` // Changed, Missing or Extra
	Want Digest `json:"want"` // zero for an extra file
	Got  Digest `json:"got"`  // zero for a missing file
	// The sizes in bytes; zero where the digest is.
	WantSize int64 `json:"wantSize"`
	GotSize  int64 `json:"gotSize"`
}

// String names the file and says what is wrong with it.
func (d Difference) String() string { return d.Path + ": " + d.Kind }

// Compare returns every file in which two valid documents differ, in the order of the paths. What is excluded is not
// compared: read the bundle with the exclusions of the document that it is held against, or else a file that one
// excludes is extra or missing.
func Compare(want, got Document) []Difference {
	var out []Difference
	i, j := 0, 0
	for i < len(want.Files) || j < len(got.Files) {
		switch {
		case j == len(got.Files) || i < len(want.Files) && want.Files[i].Path < got.Files[j].Path:
			out = append(out, Difference{Path: want.Files[i].Path, Kind: Missing, Want: want.Files[i].SHA256, WantSize: want.Files[i].Size})
			i++
		case i == len(want.Files) || got.Files[j].Path < want.Files[i].Path:
			out = append(out, Difference{Path: got.Files[j].Path, Kind: Extra, Got: got.Files[j].SHA256, GotSize: got.Files[j].Size})
			j++
		default:
			if w, g := want.Files[i], got.Files[j]; w != g {
				out = append(out, Difference{Path: w.Path, Kind: Changed, Want: w.SHA256, Got: g.SHA256, WantSize: w.Size, GotSize: g.Size})
			}
			i++
			j++
		}
	}
	return out
}
