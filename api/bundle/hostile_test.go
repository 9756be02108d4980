package bundle

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// hostile is an archive that must be refused.
type hostile struct {
	content []byte
	cause   error
	path    string // that the refusal names; empty: the archive
}

// hostileArchives are all that we know of. The test vectors hold them too.
func hostileArchives(t testing.TB) map[string]hostile {
	a := file("a", "content of a")
	plain := packTar(t, a, file("b", "content of b"))
	zeros := strings.Repeat("\x00", 12<<20)
	bomb := packTar(t, file("zeros", zeros))
	cases := map[string]hostile{
		"absolute.tar":            {packTar(t, file("/etc/passwd", "x")), ErrPath, "/etc/passwd"},
		"parent.tar":              {packTar(t, file("../evil", "x")), ErrPath, "../evil"},
		"inner-parent.tar":        {packTar(t, file("a/../../evil", "x")), ErrPath, "a/../../evil"},
		"parent-folder.tar":       {packTar(t, special("../", tar.TypeDir, ""), a), ErrPath, ".."},
		"backslash.tar":           {packTar(t, file(`..\evil`, "x")), ErrPath, `..\evil`},
		"control.tar":             {packTar(t, file("a\x1b[2Jb", "x")), ErrPath, "a\x1b[2Jb"},
		"empty-segment.tar":       {packTar(t, file("a//b", "x")), ErrPath, "a//b"},
		"unassigned.tar":          {packTar(t, file("a\u0378", "x")), ErrPath, "a\u0378"},
		"not-utf8.tar":            {notUTF8Tar(t), ErrPath, "a\xff"},
		"long-path.tar":           {packTar(t, file(strings.Repeat("a", MaxPath+1), "x")), ErrPath, strings.Repeat("a", MaxPath+1)},
		"symlink.tar":             {packTar(t, a, special("b", tar.TypeSymlink, "a")), ErrFileType, "b"},
		"symlink-then-file.tar":   {packTar(t, special("b", tar.TypeSymlink, "/etc"), file("b/passwd", "x")), ErrFileType, "b"},
		"character-device.tar":    {packTar(t, special("null", tar.TypeChar, "")), ErrFileType, "null"},
		"block-device.tar":        {packTar(t, special("sda", tar.TypeBlock, "")), ErrFileType, "sda"},
		"named-pipe.tar":          {packTar(t, special("pipe", tar.TypeFifo, "")), ErrFileType, "pipe"},
		"contiguous.tar":          {packTar(t, special("a", tar.TypeCont, "")), ErrFileType, "a"},
		"hard-link-outside.tar":   {packTar(t, special("b", tar.TypeLink, "/etc/passwd")), ErrFileType, "b"},
		"hard-link-parent.tar":    {packTar(t, special("b", tar.TypeLink, "../a")), ErrFileType, "b"},
		"hard-link-to-later.tar":  {packTar(t, special("b", tar.TypeLink, "a"), a), ErrFileType, "b"},
		"hard-link-to-self.tar":   {packTar(t, special("b", tar.TypeLink, "b")), ErrFileType, "b"},
		"duplicate.tar":           {packTar(t, a, file("a", "other")), ErrClash, "a"},
		"duplicate-dot.tar":       {packTar(t, a, file("./a", "other")), ErrClash, "a"},
		"duplicate-link.tar":      {packTar(t, a, special("a", tar.TypeLink, "a")), ErrClash, "a"},
		"case.tar":                {packTar(t, file("readme", "x"), file("README", "y")), ErrClash, "readme"},
		"case-of-folder.tar":      {packTar(t, file("doc/a", "x"), file("Doc/b", "y")), ErrClash, "Doc/b"},
		"unicode.tar":             {packTar(t, file("\u00e9", "x"), file("e\u0301", "y")), ErrClash, "\u00e9"},
		"full-folding.tar":        {packTar(t, file("stra\u00dfe", "x"), file("STRASSE", "y")), ErrClash, "stra\u00dfe"},
		"file-and-folder.tar":     {packTar(t, a, file("a/b", "y")), ErrClash, "a/b"},
		"file-and-entry.tar":      {packTar(t, a, special("a/", tar.TypeDir, "")), ErrClash, "a"},
		"global-path.tar":         {globalTar(t, "path", "b"), ErrArchive, ""},
		"global-size.tar":         {globalTar(t, "size", "1"), ErrArchive, ""},
		"two-pax-headers.tar":     {twoHeaders(t, longName('b'), longName('c')), ErrArchive, longName('c')},
		"pax-and-gnu-header.tar":  {twoHeaders(t, longName('b'), ""), ErrArchive, ""},
		"pax-before-global.tar":   {append(extended(t, longName('b')), globalTar(t, "comment", "x")...), ErrArchive, ""},
		"link-with-content.tar":   {linkWithContent(t), ErrArchive, "b"},
		"damaged-header.tar":      {damaged(plain, 1024+10), ErrArchive, ""},
		"truncated-header.tar":    {plain[:1024+100], ErrArchive, ""},
		"truncated-content.tar":   {plain[:512+5], ErrArchive, "a"},
		"truncated-end.tar":       {plain[:2048], ErrArchive, ""},
		"truncated-mark.tar":      {plain[:2048+512], ErrArchive, ""},
		"trailing.tar":            {append(bytes.Clone(plain), "more"...), ErrArchive, ""},
		"two-in-one.tar":          {append(bytes.Clone(plain), packTar(t, file("c", "x"))...), ErrArchive, ""},
		"sparse-bomb.tar":         {sparseBomb(t), ErrTooLarge, ""},
		"bomb.tar.gz":             {gzipped(bomb), ErrTooLarge, ""},
		"bomb.tar.zst":            {zstded(bomb), ErrTooLarge, ""},
		"bomb-in-padding.tar.gz":  {gzipped(append(bytes.Clone(plain), zeros...)), ErrTooLarge, ""},
		"truncated.tar.gz":        {cutAt(gzipped(plain), 0.5), ErrArchive, ""},
		"without-checksum.tar.gz": {cutAt(gzipped(plain), -4), ErrArchive, ""},
		"wrong-checksum.tar.gz":   {damaged(gzipped(plain), -6), ErrArchive, ""},
		"trailing.tar.gz":         {append(gzipped(plain), "more"...), ErrArchive, ""},
		"two-streams.tar.gz":      {append(gzipped(plain[:1024]), gzipped(plain[1024:])...), ErrArchive, ""},
		"two-in-one.tar.gz":       {append(gzipped(plain), gzipped(plain)...), ErrArchive, ""},
		"no-tar.tar.gz":           {gzipped([]byte(strings.Repeat("no tar ", 200))), ErrArchive, ""},
		"truncated.tar.zst":       {cutAt(zstded(plain), 0.5), ErrArchive, ""},
		"wrong-checksum.tar.zst":  {damaged(zstded(plain), -2), ErrArchive, ""},
		"trailing.tar.zst":        {append(zstded(plain), "more"...), ErrArchive, ""},
		"two-in-one.tar.zst":      {append(zstded(plain), zstded(plain)...), ErrArchive, ""},
		"large-window.tar.zst":    {largeWindow(t, plain), ErrArchive, ""},
		"no-archive.txt":          {[]byte("text"), ErrArchive, ""},
		"no-archive.tar":          {[]byte(strings.Repeat("text", 1000)), ErrArchive, ""},
		"a-zip.tar":               {packZip(t, zip.Deflate, a), ErrArchive, ""},
		"a-tar.zip":               {plain, ErrArchive, ""},
		"empty.tar":               {nil, ErrArchive, ""},
	}
	for name, h := range hostileZips(t) {
		cases[name] = h
	}
	return cases
}

// hostileZips are the zips among the hostile archives.
func hostileZips(t testing.TB) map[string]hostile {
	a, b := file("a", "content of a"), file("b", "content of b")
	good := packZip(t, zip.Store, a, b)
	plain := rawZip(rawEntry{name: "a", content: "content of a"}, rawEntry{name: "b", content: "content of b"})
	central := bytes.Index(plain, []byte("PK\x01\x02"))
	one := func(e rawEntry) []byte { return rawZip(e) }
	return map[string]hostile{
		"absolute.zip":            {packZip(t, zip.Deflate, file("/a", "x")), ErrPath, "/a"},
		"parent.zip":              {packZip(t, zip.Deflate, file("../a", "x")), ErrPath, "../a"},
		"backslash.zip":           {packZip(t, zip.Deflate, file(`a\b`, "x")), ErrPath, `a\b`},
		"nul.zip":                 {packZip(t, zip.Deflate, file("a\x00b", "x")), ErrPath, "a\x00b"},
		"symlink.zip":             {packZip(t, zip.Store, special("a", tar.TypeSymlink, "/etc/passwd")), ErrFileType, "a"},
		"named-pipe.zip":          {packZip(t, zip.Store, special("a", tar.TypeFifo, "")), ErrFileType, "a"},
		"device.zip":              {packZip(t, zip.Store, special("a", tar.TypeChar, "")), ErrFileType, "a"},
		"duplicate.zip":           {packZip(t, zip.Deflate, a, file("a", "other")), ErrClash, "a"},
		"case.zip":                {packZip(t, zip.Deflate, a, file("A", "other")), ErrClash, "a"},
		"unicode.zip":             {packZip(t, zip.Deflate, file("\u00e9", "x"), file("e\u0301", "y")), ErrClash, "\u00e9"},
		"file-and-folder.zip":     {packZip(t, zip.Deflate, a, file("a/b", "x")), ErrClash, "a/b"},
		"file-and-entry.zip":      {rawZip(rawEntry{name: "a"}, rawEntry{name: "a/"}), ErrClash, "a"},
		"folder-with-content.zip": {one(rawEntry{name: "a/", content: "x"}), ErrArchive, "a/"},
		"folder-by-mode.zip":      {one(rawEntry{name: "a", attributes: 0o040755 << 16}), ErrArchive, "a"},
		"file-by-mode.zip":        {one(rawEntry{name: "a/", attributes: 0o100644 << 16}), ErrArchive, "a/"},
		"encrypted.zip":           {one(rawEntry{name: "a", flags: 1, content: "x"}), ErrArchive, "a"},
		"strongly-encrypted.zip":  {one(rawEntry{name: "a", flags: 0x41, content: "x"}), ErrArchive, "a"},
		"unknown-method.zip":      {one(rawEntry{name: "a", method: 12, content: "x"}), ErrArchive, "a"},
		"unmarked-name.zip":       {one(rawEntry{name: "\u00e9"}), ErrArchive, "\u00e9"},
		"two-names.zip":           {one(rawEntry{name: "a", extra: unicodePath("a", "b")}), ErrArchive, "a"},
		"other-local-name.zip":    {one(rawEntry{name: "a", local: func(r []byte) { r[30] = 'b' }}), ErrArchive, "a"},
		"other-local-size.zip":    {one(rawEntry{name: "a", content: "x", local: func(r []byte) { r[22]++ }}), ErrArchive, "a"},
		"other-local-crc.zip":     {one(rawEntry{name: "a", content: "x", local: func(r []byte) { r[14]++ }}), ErrArchive, "a"},
		"other-local-method.zip":  {one(rawEntry{name: "a", content: "x", local: func(r []byte) { r[8] = 8 }}), ErrArchive, "a"},
		"other-local-flags.zip":   {one(rawEntry{name: "a", content: "x", local: func(r []byte) { r[6] = 1 }}), ErrArchive, "a"},
		"wrong-crc.zip":           {one(rawEntry{name: "a", content: "x", crc: 1}), ErrArchive, "a"},
		"two-sizes.zip":           {one(rawEntry{name: "a", content: "xyz", size: 2}), ErrArchive, "a"},
		"lying-size.zip":          {one(rawEntry{name: "a", method: 8, content: deflated("much more than it says"), size: 3}), ErrArchive, "a"},
		"short-content.zip":       {one(rawEntry{name: "a", method: 8, content: deflated("less"), size: 30}), ErrArchive, "a"},
		"hidden-content.zip":      {one(rawEntry{name: "a", method: 8, content: deflated("abc") + "hidden", size: 3, crc: crc32.ChecksumIEEE([]byte("abc"))}), ErrArchive, "a"},
		"damaged-deflate.zip":     {one(rawEntry{name: "a", method: 8, content: "\xff\xff\xff", size: 3}), ErrArchive, "a"},
		"wrong-descriptor.zip":    {damaged(good, bytes.Index(good, []byte("PK\x07\x08"))+5), ErrArchive, "a"},
		"overlap.zip":             {damagedTo(plain, central+sizeCentral+1+42, 0), ErrArchive, "b"},
		"hidden-entry.zip":        {hiddenEntry(), ErrArchive, ""},
		"prefix.zip":              {append([]byte("PK\x03\x04 and then a program"), plain...), ErrArchive, ""},
		"trailing.zip":            {append(bytes.Clone(plain), "more"...), ErrArchive, ""},
		"forged-comment.zip":      {forgedComment(plain), ErrArchive, ""},
		"truncated.zip":           {plain[:len(plain)-30], ErrArchive, ""},
		"truncated-end.zip":       {plain[:len(plain)-1], ErrArchive, ""},
		"too-few-entries.zip":     {damagedTo(damagedTo(plain, -14, 1), -12, 1), ErrArchive, ""},
		"several-disks.zip":       {damagedTo(plain, -16, 1), ErrArchive, ""},
		"bomb.zip":                {packZip(t, zip.Deflate, file("zeros", strings.Repeat("\x00", 12<<20))), ErrTooLarge, ""},
		"bomb-by-claim.zip":       {one(rawEntry{name: "a", method: 8, content: deflated("abc"), size: 1 << 30}), ErrTooLarge, ""},
	}
}

func damaged(b []byte, at int) []byte {
	out := bytes.Clone(b)
	if at < 0 {
		at += len(b)
	}
	out[at] ^= 0x55
	return out
}

func damagedTo(b []byte, at int, to byte) []byte {
	out := bytes.Clone(b)
	if at < 0 {
		at += len(b)
	}
	out[at] = to
	return out
}

// cutAt cuts at a share of the length, or so many bytes before its end.
func cutAt(b []byte, at float64) []byte {
	if at < 0 {
		return b[:len(b)+int(at)]
	}
	return b[:int(float64(len(b))*at)]
}

func deflated(s string) string {
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	f, err := w.Create("")
	if err != nil {
		panic(err)
	}
	f.Write([]byte(s))
	w.Close()
	out := b.Bytes()[sizeLocal:]
	return string(out[:bytes.Index(out, []byte("PK\x07\x08"))])
}

// patchTar changes a header of a tar and makes its checksum fit.
func patchTar(b []byte, at int, change func(block []byte)) []byte {
	b = bytes.Clone(b)
	block := b[at : at+blockSize]
	change(block)
	copy(block[148:156], "        ")
	sum := 0
	for _, c := range block {
		sum += int(c)
	}
	copy(block[148:156], fmt.Sprintf("%06o\x00 ", sum))
	return b
}

func notUTF8Tar(t testing.TB) []byte {
	return patchTar(packTar(t, file("ab", "x")), 0, func(b []byte) { b[1] = 0xff })
}

func linkWithContent(t testing.TB) []byte {
	b := packTar(t, file("a", "x"), special("b", tar.TypeLink, "a"))
	return patchTar(b, 1024, func(b []byte) { copy(b[124:136], "00000000001\x00") })
}

func globalTar(t testing.TB, key, value string) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeXGlobalHeader, Name: "pax_global_header", PAXRecords: map[string]string{"comment": "x"}}); err != nil {
		t.Fatal(err)
	}
	w.Flush()
	out := b.Bytes()
	record := fmt.Sprintf("%d %s=%s\n", len(key)+len(value)+len(" =\n")+2, key, value)
	if len(record) < 10 || len(record) > 99 { // its own length has two digits
		record = fmt.Sprintf("%d %s=%s\n", len(key)+len(value)+len(" =\n")+1, key, value)
	}
	clear(out[blockSize : 2*blockSize])
	copy(out[blockSize:], record)
	out = patchTar(out, 0, func(b []byte) { copy(b[124:136], fmt.Sprintf("%011o\x00", len(record))) })
	return append(out, packTar(t, file("a", "content of a"))...)
}

func longName(c byte) string { return strings.Repeat(string(c), 200) }

// extended is the pax header of a path, without what it belongs to.
func extended(t testing.TB, path string) []byte {
	b := packTar(t, header{tar.Header{Name: path, Typeflag: tar.TypeReg, Format: tar.FormatPAX}, "x"})
	return b[:2*blockSize]
}

// twoHeaders gives one file two extended headers: two of pax, or, without a second name, one of pax and one of GNU.
func twoHeaders(t testing.TB, first, second string) []byte {
	if second != "" {
		return append(extended(t, first), packTar(t, header{tar.Header{Name: second, Typeflag: tar.TypeReg, Format: tar.FormatPAX}, "x"})...)
	}
	return append(extended(t, first), packTar(t, header{tar.Header{Name: longName('c'), Typeflag: tar.TypeReg, Format: tar.FormatGNU}, "x"})...)
}

// sparseBomb is a tar of two KiB with a file of seven GiB, which is one hole.
func sparseBomb(t testing.TB) []byte {
	const real = 7 << 30
	b := packTar(t, file("hole", ""))
	return patchTar(b, 0, func(b []byte) {
		b[156] = tar.TypeGNUSparse
		copy(b[257:265], "ustar  \x00")
		clear(b[345:512])
		copy(b[386:], fmt.Sprintf("%011o\x00%011o\x00", real, 0)) // one fragment of nothing at the end
		copy(b[483:], fmt.Sprintf("%011o\x00", int64(real)))
	})
}

// largeWindow asks for more memory than any zstd uses by default.
func largeWindow(t testing.TB, content []byte) []byte {
	w, err := zstd.NewWriter(nil, zstd.WithWindowSize(512<<20), zstd.WithSingleSegment(false))
	if err != nil {
		t.Fatal(err)
	}
	out := w.EncodeAll(content, nil)
	out = bytes.Clone(out)
	// A frame without the single-segment flag names its window in the byte after the descriptor: set it to 2 GiB.
	out[4] &^= 0x20 | 0xc0
	return append(append(out[:5:5], 0xa8), out[6:]...)
}

// rawEntry is an entry of a zip, with whatever is wrong about it.
type rawEntry struct {
	name, content string
	flags, method uint16
	size, crc     uint32 // 0: those of the content
	attributes    uint32
	host          byte // that the maker ran on; 0: MS-DOS
	extra         string
	local         func(header []byte) // changes the local header
}

// rawZip makes a zip without data descriptors.
func rawZip(entries ...rawEntry) []byte {
	var out, central []byte
	le := binary.LittleEndian
	for _, e := range entries {
		if e.size == 0 {
			e.size = uint32(len(e.content))
		}
		if e.crc == 0 {
			e.crc = crc32.ChecksumIEEE([]byte(e.content))
		}
		offset := len(out)
		common := le.AppendUint16(nil, 20)
		common = le.AppendUint16(common, e.flags)
		common = le.AppendUint16(common, e.method)
		common = le.AppendUint32(common, 0)
		common = le.AppendUint32(common, e.crc)
		common = le.AppendUint32(common, uint32(len(e.content)))
		common = le.AppendUint32(common, e.size)
		common = le.AppendUint16(common, uint16(len(e.name)))
		common = le.AppendUint16(common, uint16(len(e.extra)))
		out = append(append(le.AppendUint32(out, sigLocal), common...), e.name+e.extra...)
		if e.local != nil {
			e.local(out[offset:])
		}
		out = append(out, e.content...)
		central = append(le.AppendUint16(le.AppendUint32(central, sigCentral), uint16(e.host)<<8|20), common...)
		central = append(central, make([]byte, 6)...) // comment, disk, internal attributes
		central = le.AppendUint32(central, e.attributes)
		central = append(le.AppendUint32(central, uint32(offset)), e.name+e.extra...)
	}
	at := len(out)
	out = append(out, central...)
	out = append(le.AppendUint32(out, sigEnd), 0, 0, 0, 0)
	out = le.AppendUint16(le.AppendUint16(out, uint16(len(entries))), uint16(len(entries)))
	out = le.AppendUint32(le.AppendUint32(out, uint32(len(central))), uint32(at))
	return append(out, 0, 0)
}

func unicodePath(name, other string) string {
	b := binary.LittleEndian.AppendUint16(nil, extraUnicodePath)
	b = binary.LittleEndian.AppendUint16(b, uint16(5+len(other)))
	b = append(b, 1)
	return string(binary.LittleEndian.AppendUint32(b, crc32.ChecksumIEEE([]byte(name)))) + other
}

// hiddenEntry has an entry between two others that the directory does not name: who reads from header to header finds it.
func hiddenEntry() []byte {
	b := rawZip(rawEntry{name: "a", content: "x"}, rawEntry{name: "b", content: "y"}, rawEntry{name: "c", content: "z"})
	at := bytes.Index(b, []byte("PK\x01\x02"))
	out := append(bytes.Clone(b[:at+sizeCentral+1]), b[at+2*(sizeCentral+1):]...)
	end := out[len(out)-sizeEnd:]
	end[8], end[10] = 2, 2
	binary.LittleEndian.PutUint32(end[12:], 2*(sizeCentral+1))
	return out
}

// forgedComment holds a second end record, of an empty archive, in its comment.
func forgedComment(b []byte) []byte {
	b = bytes.Clone(b)
	binary.LittleEndian.PutUint16(b[len(b)-2:], sizeEnd)
	return append(b, rawZip()...)
}
