package verify

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/signetd/signet/api/bundle"
	"github.com/signetd/signet/api/manifest"
)

func digest(b []byte) manifest.Digest { return sha256.Sum256(b) }

// content holds the record against the bundle's document, and the document against the files.
func (j *judge) content(ctx context.Context, in Input) error {
	ref, doc := j.m.Record.Bundle, j.m.Bundle
	c := &j.report.Content
	c.Bundle = !ref.IsZero()
	if !c.Bundle || !j.m.HasBundle() {
		if c.Bundle != j.m.HasBundle() {
			j.fault(Signature, "bundle", "of the record and the manifest only one has a bundle")
		}
		if in.Bundle != nil || in.BundlePath != "" {
			return fmt.Errorf("%w: the record is about no bundle, but one was given", ErrUsage)
		}
		j.note("the record is about no bundle: no file was compared")
		return nil
	}
	var d bundle.Digest
	var unlisted error
	var beside sync.WaitGroup                               // reading the files
	beside.Go(func() { d, unlisted = doc.DigestOfValid() }) // as the manifest was read
	got, refused, err := readContent(ctx, in, doc)
	beside.Wait()
	if err != nil {
		return err
	}
	if unlisted != nil {
		j.fault(Malformed, "bundle", "%v", unlisted)
		return nil
	}
	c.Digest, c.Files, c.Bytes = d.String(), len(doc.Files), doc.Bytes()
	c.Excluded, c.Roles = append(c.Excluded, doc.Excluded...), ref.Roles
	if d != ref.Digest.SHA256 || len(doc.Files) != ref.Files || doc.Bytes() != ref.Bytes {
		j.fault(Signature, "bundle",
			"the document lists %d files of %d bytes with SHA-256 %s; the record is about %d of %d with %s",
			len(doc.Files), doc.Bytes(), d, ref.Files, ref.Bytes, ref.Digest.SHA256)
	}
	j.roles(doc, ref)
	for _, x := range doc.Excluded {
		if !slices.Contains(j.m.Record.Policy.Resolved.Exclusions, x) {
			j.fault(Content, x, "the bundle leaves it out, and the policy does not allow that")
		}
	}
	if in.SkipContent {
		j.note("the content was not compared with any file")
		return nil
	}
	if refused != nil {
		j.fault(Malformed, refused.Path, "the bundle cannot be read: %s", refused.Why)
		return nil
	}
	if in.Bundle != nil { // what was read is valid
		if err := got.Validate(); err != nil {
			j.fault(Malformed, "bundle", "as read: %v", err)
			return nil
		}
	}
	c.Checked = true
	j.report.differences = bundle.Compare(doc, *got)
	for _, x := range j.report.differences {
		j.fault(Content, x.Path, "%s", describe(x))
	}
	if !slices.Equal(got.Excluded, doc.Excluded) {
		j.fault(Content, "bundle", "it was read without %q; the document leaves out %q", got.Excluded, doc.Excluded)
	}
	c.Matches = len(j.report.differences) == 0 && slices.Equal(got.Excluded, doc.Excluded)
	j.note("file modes, owners and times are not covered by the signatures")
	return nil
}

// roles holds the roles against the files.
func (j *judge) roles(doc bundle.Document, ref manifest.BundleRef) {
	for path, role := range ref.Roles {
		_, listed := slices.BinarySearchFunc(doc.Files, path, func(f bundle.File, path string) int { return strings.Compare(f.Path, path) })
		if !listed {
			j.fault(Signature, path, "the record gives it the role %s, and the document does not list it", role)
		}
	}
}

func describe(x bundle.Difference) string {
	switch x.Kind {
	case bundle.Missing:
		return "missing; it was signed with SHA-256 " + x.Want.String()
	case bundle.Extra:
		return "extra: no signature covers it; SHA-256 " + x.Got.String()
	}
	if x.Want == x.Got {
		return "changed: another size"
	}
	return "changed: it was signed with SHA-256 " + x.Want.String() + ", and has " + x.Got.String()
}

// readContent reads the bundle, unless it is given, or is not to be compared.
func readContent(ctx context.Context, in Input, doc bundle.Document) (*bundle.Document, *bundle.PathError, error) {
	if in.SkipContent || in.Bundle != nil {
		return in.Bundle, nil, nil
	}
	if in.BundlePath == "" {
		return nil, nil, fmt.Errorf("%w: the record is about a bundle; name the folder or archive", ErrUsage)
	}
	read, refused, err := readBundle(ctx, in, doc)
	return &read, refused, err
}

// readBundle reads the bundle with the exclusions of its document. refused: it cannot be read as a bundle. err: it
// could not be read.
func readBundle(
	ctx context.Context, in Input, doc bundle.Document,
) (read bundle.Document, refused *bundle.PathError, err error) {
	read, err = bundle.Read(ctx, in.BundlePath, bundle.Options{Excluded: doc.Excluded, Progress: in.Progress})
	if errors.As(err, &refused) && !errors.Is(err, bundle.ErrChanged) { // who reads again may have more luck
		return read, refused, nil
	}
	if err != nil {
		return read, nil, fmt.Errorf("reading the bundle: %w", err)
	}
	return read, nil, nil
}
