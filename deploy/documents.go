// Package deploy is the documentation that ships with the server: the validation set, the pages on installation, signing and verification, the
// profile of certificates, and the runbooks. Each record names its digest (21 CFR 11.10(k)), so that it can be shown decades later which documents
// were in force.
package deploy

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
)

//go:embed *.md validation runbooks/*.md
var documents embed.FS

// Digest returns the SHA-256, in hex, over the list of documents: for each, in the order of their paths, a line
// "<SHA-256 in hex>  <path>", as sha256sum writes it.
func Digest() (string, error) {
	sum := sha256.New()
	err := fs.WalkDir(documents, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := documents.ReadFile(path)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(sum, "%x  %s\n", sha256.Sum256(b), path)
		return err
	})
	return hex.EncodeToString(sum.Sum(nil)), err
}
