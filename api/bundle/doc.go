// Package bundle turns a folder or an archive into the one list of its files that is signed, and into one digest.
//
// # Problem
//
// People sign a release: many files, which travel as a folder here and as an archive there. The digest of an archive
// file is of no use, because packing the same files again gives other bytes: times, owners, order and compression
// differ. So what is signed is a list of paths with the SHA-256 and the size of each, and whatever is not the same
// everywhere is refused. With the list at hand, a verifier names the files that changed, instead of saying
// "mismatch".
//
// # Format: signet-bundle/v1
//
// A bundle is a set of regular files. Its document is canonical JSON (RFC 8785, see package jcs):
//
//	{"excluded":["signatures/"],"files":[{"path":"SHA256SUMS","sha256":"<64 hex>","size":1234}],"format":"signet-bundle/v1"}
//
// Files stand in the byte order of their paths; none is listed twice. The bundle digest is the SHA-256 of these bytes.
//
// Path and content are in scope. Mode, owner, group, time, extended attributes and empty folders are not: who needs
// them signed puts an archive into the bundle as a file.
//
// A path is relative, separated by "/", in UTF-8 and NFC, and has 1,024 bytes at the most. One leading "./" is
// dropped, and other normalisations are brought to NFC, when a folder or archive is read; a document must hold the
// one form. Refused are
//
//   - absolute paths ("/a", "C:/a"), the segments "." and "..", empty segments and backslashes;
//   - control characters: of category Cc, the bidirectional controls (property Bidi_Control), U+2028 and U+2029,
//     which all could make a printed path read otherwise than it is;
//   - code points that Unicode 17.0.0 does not assign, noncharacters among them, and more than 30 combining marks in
//     a row (UAX #15, Stream-Safe Text Format), because implementations part there;
//   - the same path twice; two paths that are a canonical caseless match (Unicode, section 3.13, D145: full case
//     folding), in themselves or in one of their folders: "Doc/a" and "doc/b" clash; a path that is a file here and a
//     folder there;
//   - symbolic links, devices, named pipes, sockets;
//   - more than 250,000 files.
//
// Exclusions are exact paths, or folders with a "/" at the end; there are no patterns. They stand in the document, so
// that whoever verifies sees what is not covered, sorted by bytes and each once. A listed path that is excluded, or
// is so in all but its case, is refused. What is excluded is not looked at: links may lie there.
//
// # Folders and archives
//
// The same files give the same document from a folder, a tar, a tar.gz, a tar.zst and a zip. Two programs that read
// one archive must see the same files, so that nobody signs one thing and installs another. Hence:
//
//   - Folders are read through open folders, never through links, and a file that changes while it is read is refused.
//   - tar: v7, ustar, pax and GNU, sparse files too. A hard link stands for the file that it names earlier in the
//     archive. The mark at the end must be there, and only zeros behind it. pax global headers may hold a comment,
//     times and owners, nothing else; a file has one extended header at the most.
//   - gzip: one stream, nothing behind it. zstd: windows of up to 128 MiB.
//   - zip: stored or deflated, zip64 too. The entries fill the file from its first byte to the directory, none
//     overlaps another, and local headers, data descriptors and the directory agree. Names beyond ASCII are UTF-8,
//     and marked so unless the maker ran on Unix or macOS (Info-ZIP never marks). Encrypted entries are refused.
//   - Everything is read to the end and every checksum is checked; what is truncated or has anything behind its end
//     is refused.
//   - An archive that unpacks to more than 250 times its size (beyond a first MiB) or to more than 1 TiB is refused
//     before it takes the time or memory; see [Options].
//
// # Use
//
//	doc, err := bundle.Read(ctx, "dist/", bundle.Options{Excluded: []string{"signatures/"}})
//	if errors.Is(err, bundle.ErrUnsafe) {
//		return err // names the path, and says what to do
//	}
//	digest, err := doc.Digest()
//
// To verify, read with the exclusions of the document that was signed, and [Compare]:
//
//	for _, d := range bundle.Compare(signed, doc) {
//		fmt.Println(d) // bin/signet: changed
//	}
//
// # Test vectors
//
// testdata/vectors holds one tree in twelve archives, as GNU tar, zip, zstd, Python and Go write them, and archives
// that must be refused; vectors.json says which is what. The digest of the tree, with nothing excluded, is
//
//	8f91332ac534cc738755cd89e48585505adb2c16944c337f26aa967e71304a58
//
// # Compatibility
//
// A document of signet-bundle/v1 keeps its canonical bytes and its digest for ever, and a path that is accepted today
// stays so. The format does not move with newer versions of Unicode. An archive that is refused today may be accepted
// later; one that is accepted keeps its digest.
package bundle
