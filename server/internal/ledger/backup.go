package ledger

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	bolt "go.etcd.io/bbolt"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/server/internal/tiles"
)

// A dump is a ledger as plain files, which any engine can be filled from: signet-ledger-dump/v1. It is a static C2SP tlog-tiles log, with
// three folders beside it for what a log does not have.
//
//	ledger.json             what it is: format, origin, the key of its checkpoints, the number of entries, and their root
//	checkpoint              a signed checkpoint; of all entries, unless the key was away
//	tile/entries/…          entry bundles, in order
//	tile/<L>/…              tiles
//	attachments/<n>.rows    attachments: key: index (8 bytes) ‖ ordinal (2 bytes)
//	checkpoints/<n>.rows    every signed checkpoint: key: size (8 bytes)
//	private/<n>.rows        private rows: key: name of the bucket ‖ a zero byte ‖ key
//
// A file of rows has one after the other: length of the key (4 bytes), key, length of the value (4 bytes), value; in ascending order of the
// keys, over all files of a folder. Integers are big-endian; n counts from 0 and has 20 digits. ledger.json is canonical JSON, its
// numbers are decimal strings.
//
// Projections, tree hashes and the index of requests are not in it: they are made anew from the entries, and are the same, byte
// for byte.

// DumpFormat names the form of a dump.
const DumpFormat = "signet-ledger-dump/v1"

// DumpInfo is ledger.json.
type DumpInfo struct {
	Entries string     `json:"entries"`
	Format  string     `json:"format"`
	Origin  string     `json:"origin"`
	Private bool       `json:"private"` // whether the private rows are in it
	Root    chain.Hash `json:"root"`
	VKey    string     `json:"vkey"`
}

// Names in a dump.
const (
	dumpInfo        = "ledger.json"
	dumpCheckpoint  = "checkpoint"
	dumpAttachments = "attachments"
	dumpCheckpoints = "checkpoints"
	dumpPrivate     = "private"
)

const (
	// dumpRows is how many bytes of rows a file of a dump takes before the next one begins.
	dumpRows = 4 << 20
	// MaxDumpFile is the largest size of a file of a dump.
	MaxDumpFile = max(tiles.MaxBundle, dumpRows+2*MaxAttachment)
)

// Exported says what a dump holds.
type Exported struct {
	Entries     uint64
	Root        chain.Hash
	VKey        string
	Checkpoint  Signed // the zero Signed if there is none
	Attachments uint64
	Checkpoints uint64
	Private     uint64 // rows
}

// Export writes a dump of the ledger as it is at one moment, while it goes on being written to: all that is only ever added to is read in
// short ranges; the private rows are copied in one look, beside the ledger's file, and are gone when Export returns. put gets
// each file once, in the order above, and the bytes are not used again.
func (l *Ledger) Export(ctx context.Context, private bool, put func(name string, data []byte) error, progress Progress) (Exported, error) {
	if progress == nil {
		progress = func(uint64, uint64) {}
	}
	if l.o.Signer.Public == nil {
		return Exported{}, invalid("a dump needs the key of the checkpoints")
	}
	d := &dump{l: l, put: put, progress: progress}
	if err := d.moment(private); err != nil {
		return Exported{}, err
	}
	defer d.close()
	if l.Size() < d.out.Entries { // what was just committed can be read a moment before it is counted
		if _, err := l.Do(ctx, func(*Tx) error { return nil }); err != nil {
			return Exported{}, err
		}
	}
	if err := d.export(ctx, private); err != nil {
		return Exported{}, err
	}
	return d.out, nil
}

// dump is an export that is being made.
type dump struct {
	l        *Ledger
	put      func(name string, data []byte) error
	progress Progress
	out      Exported
	spool    *os.File // the private rows
}

// moment decides what the dump holds.
func (d *dump) moment(private bool) (err error) {
	if d.out.VKey, _, err = chain.VerifierKey(d.l.o.Origin, d.l.o.Signer.Public); err != nil {
		return err
	}
	if private {
		if d.spool, err = os.CreateTemp(filepath.Dir(d.l.o.Path), ".private-*"); err != nil { // mode 0600
			return storeError(err)
		}
		if err := os.Remove(d.spool.Name()); err != nil {
			return storeError(errors.Join(err, d.spool.Close()))
		}
	}
	err = d.l.read(func(tx *bolt.Tx) error {
		at, err := readPosition(tx)
		if err != nil {
			return err
		}
		d.out.Entries, d.out.Root = at.tree.Size(), at.tree.Root()
		if d.spool == nil {
			return nil
		}
		return d.copyPrivate(tx)
	})
	if err != nil {
		d.close()
	}
	return err
}

func (d *dump) copyPrivate(tx *bolt.Tx) error {
	w := bufio.NewWriterSize(d.spool, 1<<20)
	root := tx.Bucket(privateBucket)
	var row []byte
	err := root.ForEachBucket(func(name []byte) error {
		if bytes.IndexByte(name, 0) >= 0 || len(name) == 0 {
			return corrupt("a private bucket has the name %q", name)
		}
		return root.Bucket(name).ForEach(func(k, v []byte) error {
			d.out.Private++
			key := append(append(append(make([]byte, 0, len(name)+1+len(k)), name...), 0), k...)
			row = appendRow(row[:0], key, v)
			_, err := w.Write(row)
			return err
		})
	})
	if err == nil {
		err = w.Flush()
	}
	if err == nil {
		_, err = d.spool.Seek(0, io.SeekStart)
	}
	return storeError(err)
}

func (d *dump) close() {
	if d.spool != nil {
		d.spool.Close() // its name is gone already
	}
}

func (d *dump) export(ctx context.Context, private bool) error {
	info, err := json.Marshal(DumpInfo{
		Entries: strconv.FormatUint(d.out.Entries, 10), Format: DumpFormat, Origin: d.l.o.Origin, Private: private, Root: d.out.Root, VKey: d.out.VKey,
	}, json.Deterministic(true))
	if err != nil {
		return invalid("%s: %v", dumpInfo, err)
	}
	if err := d.put(dumpInfo, info); err != nil {
		return err
	}
	if err := d.checkpoint(ctx); err != nil {
		return err
	}
	emit := func(p tiles.Path) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		data, err := tiles.Read(ctx, d.l, p)
		if err != nil {
			return err
		}
		if p.Level == tiles.Entries {
			d.progress(min(d.out.Entries, p.Index*tiles.Width+uint64(p.Width)), d.out.Entries)
		}
		return d.put(p.String(), data)
	}
	covered := d.out.Checkpoint.Checkpoint.Size
	if err := tiles.All(0, covered, emit); err != nil {
		return err
	}
	if err := tiles.All(covered, d.out.Entries, emit); err != nil {
		return err
	}
	if d.out.Attachments, err = d.rows(ctx, dumpAttachments, attachmentsBucket, d.out.Entries-1); err != nil {
		return err
	}
	if d.out.Checkpoints, err = d.rows(ctx, dumpCheckpoints, checkpointsBucket, d.out.Entries); err != nil {
		return err
	}
	if d.spool == nil {
		return nil
	}
	return d.private()
}

// checkpoint writes a signed checkpoint of all entries: the newest one, one from the file, or one that is signed now. While the key is away
// it is the newest one of fewer entries.
func (d *dump) checkpoint(ctx context.Context) error {
	if d.out.Entries == 0 {
		return nil
	}
	head := d.l.Head()
	if head.Checkpoint.Size != d.out.Entries {
		var stored Signed
		err := d.l.read(func(tx *bolt.Tx) error {
			c := tx.Bucket(checkpointsBucket).Cursor()
			k, v := c.Seek(indexKey(d.out.Entries))
			if !bytes.Equal(k, indexKey(d.out.Entries)) {
				k, v = c.Prev()
			}
			if k == nil {
				return nil
			}
			point, err := chain.OpenCheckpoint(v, d.l.verifier)
			if err != nil {
				return corrupt("checkpoint, key %x: %v", k, err)
			}
			stored = Signed{point, clone(v)}
			return nil
		})
		if err != nil {
			return err
		}
		if head.Note == nil || head.Checkpoint.Size > d.out.Entries || stored.Checkpoint.Size > head.Checkpoint.Size {
			head = stored
		}
	}
	if head.Checkpoint.Size != d.out.Entries && !d.l.o.ReadOnly {
		ctx, cancel := context.WithTimeout(ctx, firstCheckpoint)
		defer cancel()
		signed, err := d.l.sign(ctx, chain.Checkpoint{Origin: d.l.o.Origin, Size: d.out.Entries, Root: d.out.Root})
		if err == nil {
			head = signed
		} else {
			d.l.log.Warn("ledger: a dump has an older checkpoint, as none could be signed", "err", err, "entries", d.out.Entries, "checkpoint", head.Checkpoint.Size)
		}
	}
	if head.Note == nil {
		return nil
	}
	d.out.Checkpoint = head
	return d.put(dumpCheckpoint, head.Note)
}

// rows writes the rows of a bucket whose keys begin with an index up to last.
func (d *dump) rows(ctx context.Context, folder string, bucket []byte, last uint64) (n uint64, err error) {
	if d.out.Entries == 0 {
		return 0, nil
	}
	end := indexKey(last)
	var after []byte // the last key that was read
	for file := 0; ; file++ {
		if ctx.Err() != nil {
			return n, context.Cause(ctx)
		}
		var data []byte
		err := d.l.read(func(tx *bolt.Tx) error {
			c := tx.Bucket(bucket).Cursor()
			k, v := c.Seek(after)
			if after != nil && bytes.Equal(k, after) {
				k, v = c.Next()
			}
			for ; k != nil && len(data) < dumpRows; k, v = c.Next() {
				if len(k) < len(end) || bytes.Compare(k[:len(end)], end) > 0 {
					return nil
				}
				data = appendRow(data, k, v)
				after = clone(k)
				n++
			}
			return nil
		})
		if err != nil || len(data) == 0 {
			return n, err
		}
		if err := d.put(rowsName(folder, file), data); err != nil {
			return n, err
		}
	}
}

// private writes the private rows from their copy.
func (d *dump) private() error {
	r := bufio.NewReaderSize(d.spool, 1<<20)
	var data []byte
	file := 0
	for {
		key, value, err := readRow(r)
		if err != nil && err != io.EOF {
			return storeError(err)
		}
		end := err == io.EOF
		if !end {
			data = appendRow(data, key, value)
		}
		if len(data) >= dumpRows || end && len(data) > 0 {
			if err := d.put(rowsName(dumpPrivate, file), data); err != nil {
				return err
			}
			data = nil // the other belongs to put
			file++
		}
		if end {
			return nil
		}
	}
}

func rowsName(folder string, file int) string { return fmt.Sprintf("%s/%020d.rows", folder, file) }

func appendRow(b, key, value []byte) []byte {
	b = append(binary.BigEndian.AppendUint32(b, uint32(len(key))), key...)
	return append(binary.BigEndian.AppendUint32(b, uint32(len(value))), value...)
}

// readRow reads a row; io.EOF at the end.
func readRow(r io.Reader) (key, value []byte, err error) {
	field := func(first bool) ([]byte, error) {
		var length [4]byte
		if _, err := io.ReadFull(r, length[:]); err != nil {
			if err == io.EOF && !first {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
		n := binary.BigEndian.Uint32(length[:])
		if n > MaxDumpFile {
			return nil, corrupt("a row of %d bytes", n)
		}
		b, err := io.ReadAll(io.LimitReader(r, int64(n)))
		if err == nil && len(b) != int(n) {
			err = io.ErrUnexpectedEOF
		}
		return b, err
	}
	if key, err = field(true); err != nil {
		return nil, nil, err
	}
	value, err = field(false)
	return key, value, err
}
