package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"

	"sigs.k8s.io/yaml"
)

// rowsFormat is the version of the file of requirements.
const rowsFormat = "signet-requirements/v1"

// Row is one requirement.
type Row struct {
	ID         string `json:"id"`
	Statement  string `json:"statement"`
	Acceptance string `json:"acceptance"`
	Open       string `json:"open,omitempty"` // what of the acceptance is not built yet: with it the row cannot pass
}

type rowsFile struct {
	Format string `json:"format"`
	Rows   []Row  `json:"rows"`
}

// errRows is wrapped by errors about the requirements.
var errRows = errors.New("requirements")

var rowID = regexp.MustCompile(`^(?:[ABCX]-[0-9]{2,3}|11\.[0-9]{1,3}(?:\([a-z0-9]{1,4}\))*)$`)

// readRows reads the requirements; unknown and duplicate keys, ids that look like none and rows that say nothing are refused.
func readRows(path string) ([]Row, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errRows, err)
	}
	return parseRows(b)
}

func parseRows(b []byte) ([]Row, error) {
	var f rowsFile
	if err := yaml.UnmarshalStrict(b, &f); err != nil {
		return nil, fmt.Errorf("%w: %w", errRows, err)
	}
	if bytes.Contains(b, []byte("\n---")) { // the library reads the first document alone
		return nil, fmt.Errorf("%w: several documents in one file", errRows)
	}
	if f.Format != rowsFormat {
		return nil, fmt.Errorf("%w: format is %q; this program reads %q", errRows, f.Format, rowsFormat)
	}
	if len(f.Rows) == 0 {
		return nil, fmt.Errorf("%w: there are none", errRows)
	}
	seen := map[string]bool{}
	for i, row := range f.Rows {
		switch {
		case !rowID.MatchString(row.ID):
			return nil, fmt.Errorf("%w: row %d: %q is not an id such as A-15 or 11.10(a)", errRows, i+1, row.ID)
		case seen[row.ID]:
			return nil, fmt.Errorf("%w: %s stands there twice", errRows, row.ID)
		case strings.TrimSpace(row.Statement) == "" || strings.TrimSpace(row.Acceptance) == "":
			return nil, fmt.Errorf("%w: %s has no statement or no acceptance", errRows, row.ID)
		}
		seen[row.ID] = true
	}
	return f.Rows, nil
}
