package lostwrites

import (
	"context"
	"fmt"
	"os"
	"path"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// Mount makes the disk a folder of this machine. The caller must be root, also of a user namespace of its own. What is returned
// takes it away again, also while programs have files open.
func (d *Disk) Mount(folder string) (unmount func() error, err error) {
	d.next = max(d.next, 1)
	root := &dir{disk: d, ino: 1, mode: 0o700}
	timeout := time.Second
	server, err := fs.Mount(folder, root, &fs.Options{
		AttrTimeout: &timeout, EntryTimeout: &timeout,
		OnAdd:        func(context.Context) { root.load() },
		MountOptions: fuse.MountOptions{DirectMountStrict: true, FsName: "lostwrites", Name: "lostwrites", DisableXAttrs: true},
	})
	if err != nil {
		return nil, fmt.Errorf("mounting a file system of FUSE needs /dev/fuse and the right to mount (root, also of a user namespace): %w", err)
	}
	return func() error {
		err := syscall.Unmount(folder, syscall.MNT_DETACH)
		server.Wait()
		return err
	}, nil
}

// Load fills a new disk with a cut's image; all of it is durable.
func (d *Disk) Load(i Image) { d.first = i.records() }

// continueFrom makes a new disk of one that was unmounted, which still has power: what programs see is the same, and so is the log.
func (d *Disk) continueFrom(old *Disk) {
	c := old.Cursor()
	c.Advance(c.Len())
	d.first, d.log = old.first, c.log
	d.now = c.Cut(None, nil).records()
	d.next = old.next
}

// load makes what was there before the first operation.
func (r *dir) load() {
	d := r.disk
	d.mu.Lock()
	defer d.mu.Unlock()
	folders := map[uint64]*dir{1: r}
	files := map[uint64]*file{}
	there := d.first
	if d.now != nil {
		there = d.now
	}
	for _, rec := range there {
		d.next = max(d.next, rec.file)
		switch rec.kind {
		case Link:
			folders[rec.folder].AddChild(rec.name, files[rec.file].EmbeddedInode(), true)
		case Create:
			parent := folders[rec.folder]
			var node fs.InodeEmbedder
			mode := uint32(fuse.S_IFREG)
			if rec.isFolder {
				n := &dir{disk: d, ino: rec.file, mode: rec.mode}
				folders[rec.file], node, mode = n, n, fuse.S_IFDIR
			} else {
				n := &file{disk: d, ino: rec.file, mode: rec.mode, name: rec.name}
				files[rec.file], node = n, n
			}
			child := parent.NewPersistentInode(context.Background(), node, fs.StableAttr{Mode: mode, Ino: rec.file})
			parent.AddChild(rec.name, child, true)
		case Resize:
			files[rec.file].content.resize(rec.offset)
		case Write:
			files[rec.file].content.write(rec.data, rec.offset)
		}
	}
}

// dir is a folder.
type dir struct {
	fs.Inode
	disk *Disk
	ino  uint64
	mode uint32
}

// file is a file.
type file struct {
	fs.Inode
	disk    *Disk
	ino     uint64
	mode    uint32
	name    string // its newest
	content content
}

var (
	_ fs.NodeCreater   = (*dir)(nil)
	_ fs.NodeMkdirer   = (*dir)(nil)
	_ fs.NodeLinker    = (*dir)(nil)
	_ fs.NodeUnlinker  = (*dir)(nil)
	_ fs.NodeRmdirer   = (*dir)(nil)
	_ fs.NodeRenamer   = (*dir)(nil)
	_ fs.NodeFsyncer   = (*dir)(nil)
	_ fs.NodeGetattrer = (*dir)(nil)
	_ fs.NodeSetattrer = (*dir)(nil)
	_ fs.NodeOpener    = (*file)(nil)
	_ fs.NodeReader    = (*file)(nil)
	_ fs.NodeWriter    = (*file)(nil)
	_ fs.NodeFsyncer   = (*file)(nil)
	_ fs.NodeGetattrer = (*file)(nil)
	_ fs.NodeSetattrer = (*file)(nil)
)

// made logs a new name.
func (r *dir) made(name string, mode uint32, isFolder bool) (uint64, syscall.Errno) {
	if _, errno := r.disk.ask(Op{Kind: Create, Name: name}); errno != 0 {
		return 0, errno
	}
	r.disk.next++
	ino := r.disk.next
	r.disk.add(record{kind: Create, file: ino, folder: r.ino, name: name, isFolder: isFolder, mode: mode & 0o777})
	return ino, 0
}

// Create makes a file.
func (r *dir) Create(ctx context.Context, name string, _, mode uint32, out *fuse.EntryOut) (*fs.Inode, fs.FileHandle, uint32, syscall.Errno) {
	r.disk.mu.Lock()
	defer r.disk.mu.Unlock()
	ino, errno := r.made(name, mode, false)
	if errno != 0 {
		return nil, nil, 0, errno
	}
	f := &file{disk: r.disk, ino: ino, mode: mode & 0o777, name: name}
	f.attr(&out.Attr)
	return r.NewPersistentInode(ctx, f, fs.StableAttr{Mode: fuse.S_IFREG, Ino: ino}), nil, fuse.FOPEN_KEEP_CACHE, 0
}

// Mkdir makes a folder.
func (r *dir) Mkdir(ctx context.Context, name string, mode uint32, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	r.disk.mu.Lock()
	defer r.disk.mu.Unlock()
	ino, errno := r.made(name, mode, true)
	if errno != 0 {
		return nil, errno
	}
	n := &dir{disk: r.disk, ino: ino, mode: mode & 0o777}
	n.attr(&out.Attr)
	return r.NewPersistentInode(ctx, n, fs.StableAttr{Mode: fuse.S_IFDIR, Ino: ino}), 0
}

// Link gives a file another name.
func (r *dir) Link(_ context.Context, target fs.InodeEmbedder, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	r.disk.mu.Lock()
	defer r.disk.mu.Unlock()
	f, ok := target.(*file)
	if !ok {
		return nil, syscall.EPERM
	}
	if _, errno := r.disk.ask(Op{Kind: Link, Name: name}); errno != 0 {
		return nil, errno
	}
	r.disk.add(record{kind: Link, file: f.ino, folder: r.ino, name: name})
	f.name = name
	f.attr(&out.Attr)
	return f.EmbeddedInode(), 0
}

// Unlink removes a name.
func (r *dir) Unlink(_ context.Context, name string) syscall.Errno {
	r.disk.mu.Lock()
	defer r.disk.mu.Unlock()
	if _, errno := r.disk.ask(Op{Kind: Remove, Name: name}); errno != 0 {
		return errno
	}
	r.disk.add(record{kind: Remove, from: r.ino, oldName: name})
	return 0
}

// Rmdir removes a folder.
func (r *dir) Rmdir(ctx context.Context, name string) syscall.Errno { return r.Unlink(ctx, name) }

// Rename moves a name, over another one if there is one.
func (r *dir) Rename(_ context.Context, name string, parent fs.InodeEmbedder, newName string, flags uint32) syscall.Errno {
	r.disk.mu.Lock()
	defer r.disk.mu.Unlock()
	to, ok := parent.(*dir)
	if !ok || flags != 0 {
		return syscall.EINVAL
	}
	child := r.GetChild(name)
	if child == nil {
		return syscall.ENOENT
	}
	if _, errno := r.disk.ask(Op{Kind: Rename, Name: newName}); errno != 0 {
		return errno
	}
	if f, ok := child.Operations().(*file); ok {
		f.name = newName
	}
	r.disk.add(record{kind: Rename, file: child.StableAttr().Ino, folder: to.ino, name: newName, from: r.ino, oldName: name})
	return 0
}

// Fsync makes the folder's names durable.
func (r *dir) Fsync(context.Context, fs.FileHandle, uint32) syscall.Errno {
	r.disk.mu.Lock()
	defer r.disk.mu.Unlock()
	return r.disk.sync(r.ino, path.Base(r.Path(nil)))
}

func (r *dir) attr(out *fuse.Attr) {
	out.Mode, out.Ino, out.Nlink = r.mode|fuse.S_IFDIR, r.ino, 2
	out.Uid, out.Gid = uint32(os.Getuid()), uint32(os.Getgid())
}

// Getattr says what the folder is.
func (r *dir) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	r.attr(&out.Attr)
	return 0
}

// Setattr changes its rights.
func (r *dir) Setattr(_ context.Context, _ fs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	r.disk.mu.Lock()
	defer r.disk.mu.Unlock()
	if mode, ok := in.GetMode(); ok {
		r.mode = mode & 0o777
	}
	r.attr(&out.Attr)
	return 0
}

func (f *file) attr(out *fuse.Attr) {
	out.Mode, out.Ino, out.Nlink, out.Size = f.mode|fuse.S_IFREG, f.ino, 1, uint64(len(f.content.data))
	out.Blocks, out.Blksize = (out.Size+511)/512, 4096
	out.Uid, out.Gid = uint32(os.Getuid()), uint32(os.Getgid())
}

// Open opens the file; its pages stay in the kernel's cache, where they can be mapped.
func (f *file) Open(context.Context, uint32) (fs.FileHandle, uint32, syscall.Errno) {
	return nil, fuse.FOPEN_KEEP_CACHE, 0
}

// Read reads.
func (f *file) Read(_ context.Context, _ fs.FileHandle, dest []byte, offset int64) (fuse.ReadResult, syscall.Errno) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	return fuse.ReadResultData(f.content.read(dest, offset)), 0
}

// Write writes.
func (f *file) Write(_ context.Context, _ fs.FileHandle, data []byte, offset int64) (uint32, syscall.Errno) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	n, errno := f.disk.write(f.ino, f.name, &f.content, data, offset)
	return uint32(n), errno
}

// Fsync makes the file durable.
func (f *file) Fsync(context.Context, fs.FileHandle, uint32) syscall.Errno {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	return f.disk.sync(f.ino, f.name)
}

// Getattr says what the file is.
func (f *file) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	f.attr(&out.Attr)
	return 0
}

// Setattr changes the size or the rights.
func (f *file) Setattr(_ context.Context, _ fs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if mode, ok := in.GetMode(); ok {
		f.mode = mode & 0o777
	}
	if size, ok := in.GetSize(); ok {
		if errno := f.disk.resize(f.ino, f.name, &f.content, int64(size)); errno != 0 {
			return errno
		}
	}
	f.attr(&out.Attr)
	return 0
}
