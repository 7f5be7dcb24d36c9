//! Disks that can be filled up and lose power: a small ext4 in a file, mounted through a loop device. That needs root, and not
//! every machine has loop devices; whoever asks for one is told.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

/// Stops file systems at once, so that what was not flushed is forgotten: EXT4_IOC_SHUTDOWN without flushing the journal.
const POWER_CUT: &str = "import fcntl, os, struct, sys
for place in [os.open(path, os.O_RDONLY) for path in sys.argv[1:]]:
    fcntl.ioctl(place, 0x8004587d, struct.pack('I', 2))";

/// How often and after which pause a disk that is still in use is tried again: processes that others are starting may hold
/// copies of open files until they run their own programs.
const UNMOUNT_TRIES: usize = 100;
const UNMOUNT_PAUSE: Duration = Duration::from_millis(50);

/// A disk.
#[derive(Debug)]
pub struct Disk {
    image: PathBuf,
    mounted: PathBuf,
}

impl Disk {
    /// Makes and mounts one below `folder`, if this machine allows it.
    ///
    /// # Panics
    /// When not even a file can be made.
    pub fn mount(folder: &Path, mebibytes: u64) -> Option<Self> {
        let disk = Self { image: folder.join("image"), mounted: folder.join("mounted") };
        fs::create_dir_all(&disk.mounted).expect("a folder for a disk");
        File::create(&disk.image).and_then(|file| file.set_len(mebibytes << 20)).expect("a file for a disk");
        let made = Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(&disk.image).output();
        (made.is_ok_and(|output| output.status.success()) && disk.mount_again()).then_some(disk)
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.mounted
    }

    /// Unmounts it and mounts it again: what was not on the disk is gone.
    ///
    /// # Panics
    /// When somebody still uses it, or it can't be mounted any more.
    pub fn remount(&mut self) {
        let is_unmounted = (0..UNMOUNT_TRIES).any(|_| {
            let unmounted = Command::new("umount").arg(&self.mounted).output();
            unmounted.is_ok_and(|output| output.status.success()) || {
                thread::sleep(UNMOUNT_PAUSE);
                false
            }
        });
        assert!(is_unmounted, "somebody still uses {}", self.mounted.display());
        assert!(self.mount_again(), "{} can't be mounted any more", self.mounted.display());
    }

    fn mount_again(&self) -> bool {
        let mounted = Command::new("mount").args(["-o", "loop"]).args([&self.image, &self.mounted]).output();
        mounted.is_ok_and(|output| output.status.success())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.mounted).output();
    }
}

/// Cuts the power of disks, all at the same moment. Whether this machine can.
pub fn cut_power<'d>(disks: impl IntoIterator<Item = &'d Disk>) -> bool {
    let paths = disks.into_iter().map(Disk::path);
    Command::new("python3").args(["-c", POWER_CUT]).args(paths).status().is_ok_and(|status| status.success())
}

/// A file that takes all the room of a disk, until it is dropped.
#[derive(Debug)]
pub struct Hog(PathBuf);

impl Hog {
    /// Writes until there is no byte left.
    ///
    /// # Panics
    /// When not even an empty file can be made.
    pub fn fill(disk: &Disk) -> Self {
        use std::io::Write;
        let path = disk.mounted.join("hog");
        let mut file = File::create(&path).expect("a file needs no room");
        for block in [1 << 20, 4 << 10, 1 << 10, 1] {
            let bytes = vec![0xab; block];
            while file.write_all(&bytes).is_ok() {}
        }
        // On a full disk there may be no room for this either.
        let _ = file.sync_all();
        Self(path)
    }
}

impl Drop for Hog {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
