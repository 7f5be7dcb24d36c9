//! What the file system under a data directory is, and how much room it has.

use std::{fs::File, os::unix::fs::MetadataExt, path::Path};

use rustix::{fs::FallocateFlags, io::Errno};

use super::error::OpenError;

/// File systems on which LMDB must not be used (its documentation excludes remote ones, because their locks and maps are
/// not coherent) or on which a mapped file may change under its reader (a copy-up of an overlay).
const UNSAFE: &[(u64, &str)] = &[
    (0x6969, "NFS"),
    (0x517b, "SMB"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB2"),
    (0x794c_7630, "overlayfs"),
    (0x6573_5546, "FUSE"),
    (0x0102_1997, "9p"),
    (0x00c3_6400, "Ceph"),
    (0x5346_414f, "AFS"),
    (0x0bd0_0bd0, "Lustre"),
    (0x4750_4653, "GPFS"),
    (0x786f_4256, "vboxsf"),
];

/// Refuses file systems that would damage the store.
pub(super) fn check(directory: &Path) -> Result<(), OpenError> {
    let found = rustix::fs::statfs(directory)
        .map_err(|errno| OpenError::io(directory, "could not inspect the file system")(errno.into()))?;
    // The type is a 32-bit number; some platforms return it in a wider, signed word.
    let magic = u64::from(found.f_type as u32);
    match UNSAFE.iter().find(|(unsafe_magic, _)| *unsafe_magic == magic) {
        Some((_, kind)) => Err(OpenError::UnsafeFilesystem { path: directory.to_owned(), kind }),
        None => Ok(()),
    }
}

/// Bytes an unprivileged process may still take from the file system of an open file; all there are if it can't be asked.
pub(super) fn available_bytes(file: &File) -> u64 {
    rustix::fs::fstatvfs(file).map_or(u64::MAX, |found| found.f_bavail.saturating_mul(found.f_frsize))
}

/// Bytes of the whole file system that a path is on, those that are in use among them.
pub(super) fn total_bytes(path: &Path) -> Result<u64, OpenError> {
    let found = rustix::fs::statvfs(path)
        .map_err(|errno| OpenError::io(path, "could not inspect the file system")(errno.into()))?;
    Ok(found.f_blocks.saturating_mul(found.f_frsize))
}

/// Bytes a file really occupies.
pub(super) fn occupied_bytes(file: &File) -> u64 {
    file.metadata().map_or(0, |metadata| metadata.blocks().saturating_mul(512))
}

/// Whether the bytes `from..to` of a file could be given room on disk, so that writing there can't fail for want of it.
/// File systems that don't offer that say yes: then only the free space counts.
pub(super) fn allocate(file: &File, from: u64, to: u64) -> Result<(), Errno> {
    match rustix::fs::fallocate(file, FallocateFlags::empty(), from, to.saturating_sub(from)) {
        Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// Makes what was created, renamed or removed in a directory durable.
pub(super) fn sync_directory(directory: &Path) -> Result<(), OpenError> {
    File::open(directory)
        .and_then(|open| open.sync_all())
        .map_err(OpenError::io(directory, "could not make the directory durable"))
}

/// Writes a small file so that after a crash it is there as a whole or not at all.
pub(super) fn write_durably(path: &Path, text: &str) -> Result<(), OpenError> {
    let temporary = path.with_extension("new");
    let write = || {
        std::fs::write(&temporary, text)?;
        File::open(&temporary)?.sync_all()?;
        std::fs::rename(&temporary, path)
    };
    write().map_err(OpenError::io(path, "could not write the file"))?;
    path.parent().map_or(Ok(()), sync_directory)
}
