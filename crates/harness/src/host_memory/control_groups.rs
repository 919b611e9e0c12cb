//! The control groups (cgroups) of this process with a memory controller, and the lowest of their
//! memory limits.
//!
//! A limit of a group applies to all groups below it, for example to the steps of a job of Slurm.
//! Version 1 and version 2 can be mounted at the same time (hybrid hierarchies).
//!
//! Source: `Documentation/admin-guide/cgroup-v2.rst` and `cgroup-v1/memory.rst` of the kernel,
//! `proc_pid_mountinfo(5)`, and `cgroup_namespaces(7)` for paths with `..`.

use std::path::{Path, PathBuf};

/// A version of the interface of control groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

/// The control group of this process in one mounted hierarchy, and the groups above it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MemoryGroups {
    version: Version,
    /// The folders of the groups, from the group of the process to the mount point.
    folders: Vec<PathBuf>,
}

impl MemoryGroups {
    /// Returns the folders of the groups, from the group of the process to the mount point. Some
    /// may not exist.
    pub(crate) fn folders(&self) -> &[PathBuf] {
        &self.folders
    }

    /// Returns the limits of all groups that apply to the process, in bytes.
    fn limits(&self) -> impl Iterator<Item = u64> {
        let name = match self.version {
            Version::V1 => "memory.limit_in_bytes",
            Version::V2 => "memory.max",
        };
        let applies = |(index, folder): &(usize, &PathBuf)| {
            *index == 0 || self.version == Version::V2 || is_hierarchical(folder)
        };
        let groups = self.folders.iter().enumerate().take_while(applies);
        // `max` is not a number
        groups.filter_map(move |(_, folder)| read_number(&folder.join(name)))
    }
}

/// Returns the control groups of this process in each mounted hierarchy with a memory controller,
/// version 1 first, because a hybrid hierarchy of version 2 has no controllers.
pub(crate) fn memory_groups(root: &Path) -> Vec<MemoryGroups> {
    let read = |path: &str| {
        let bytes = std::fs::read(root.join(path)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let memberships = read("proc/self/cgroup");
    let mounts = read("proc/self/mountinfo");
    let mut groups: Vec<MemoryGroups> = mounts
        .lines()
        .filter_map(Mount::parse)
        .filter_map(|m| m.groups(root, &memberships))
        .collect();
    groups.sort_by_key(|groups| groups.version == Version::V2);
    groups
}

/// Returns the lowest memory limit of this process in bytes. `None` if no limit is below
/// `physical_bytes`.
pub(super) fn memory_limit(root: &Path, physical_bytes: u64) -> Option<u64> {
    let groups = memory_groups(root);
    let limits = groups.iter().flat_map(MemoryGroups::limits);
    limits.filter(|limit| (1..physical_bytes).contains(limit)).min()
}

fn read_number(path: &Path) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Returns whether the limit of a group of version 1 applies to the groups below it.
fn is_hierarchical(folder: &Path) -> bool {
    read_number(&folder.join("memory.use_hierarchy")) != Some(0)
}

/// A mounted hierarchy with a memory controller.
struct Mount {
    version: Version,
    /// The group that is mounted, relative to the root of the cgroup namespace.
    group: String,
    /// The mount point.
    point: String,
}

impl Mount {
    /// Parses a line of `/proc/self/mountinfo`. `None` if it is not such a hierarchy.
    fn parse(line: &str) -> Option<Mount> {
        // optional fields end with a hyphen
        let (mount, file_system) = line.split_once(" - ")?;
        let mut mount = mount.split(' ').skip(3);
        let (group, point) = (unescape(mount.next()?), unescape(mount.next()?));
        let mut file_system = file_system.split(' ');
        let version = match file_system.next()? {
            "cgroup2" => Version::V2,
            "cgroup" if has_memory(file_system.nth(1)?) => Version::V1,
            _ => return None,
        };
        Some(Mount { version, group, point })
    }

    /// Returns the groups of a process with these `memberships` (the content of
    /// `/proc/self/cgroup`). `None` if the process is not in a group below the mounted one.
    fn groups(&self, root: &Path, memberships: &str) -> Option<MemoryGroups> {
        let path = memberships.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':');
            let (id, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
            let is_own = match self.version {
                Version::V1 => has_memory(controllers),
                Version::V2 => id == "0" && controllers.is_empty(),
            };
            is_own.then_some(path)
        })?;
        let names = names_below(&self.group, path)?;
        let point = root.join(self.point.trim_start_matches('/'));
        let folder =
            |count: usize| names[..count].iter().fold(point.clone(), |at, name| at.join(name));
        Some(MemoryGroups {
            version: self.version,
            folders: (0..=names.len()).rev().map(folder).collect(),
        })
    }
}

/// Returns whether a list of controllers or mount options contains the memory controller.
fn has_memory(list: &str) -> bool {
    list.split(',').any(|name| name == "memory")
}

/// Returns the names of the groups that lead from the mounted group to the group `path`. `None` if
/// `path` is not below the mounted group.
fn names_below<'a>(mounted: &'a str, path: &'a str) -> Option<Vec<&'a str>> {
    let (mounted, path) = (names(mounted), names(path));
    if let Some(below) = path.strip_prefix(&mounted[..]) {
        return (!below.contains(&"..")).then(|| below.to_vec());
    }
    // a mount from outside of the cgroup namespace: it contains the namespace, at an unknown path
    mounted.iter().all(|name| *name == "..").then(Vec::new)
}

fn names(path: &str) -> Vec<&str> {
    path.split('/').filter(|name| !name.is_empty()).collect()
}

/// Replaces the octal escapes of `/proc/self/mountinfo`, for example `\040` for a space.
fn unescape(text: &str) -> String {
    let mut parts = text.split('\\');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let escape = part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match escape {
            Some(byte) => {
                plain.push(char::from(byte));
                plain.push_str(&part[3..]);
            }
            None => {
                plain.push('\\');
                plain.push_str(part);
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;
    const PHYSICAL: u64 = 64 * GIB;
    /// The value of a group of version 1 without a limit.
    const UNLIMITED: &str = "9223372036854771712\n";

    const UNIFIED: &str = "31 23 0:27 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - \
                           cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n";
    const V1_MEMORY: &str = "36 31 0:32 / /sys/fs/cgroup/memory rw,nosuid,nodev,noexec,relatime \
                             shared:17 - cgroup cgroup rw,memory\n";
    const OTHERS: &str = "23 28 0:21 / /sys rw,nosuid,nodev,noexec,relatime shared:7 - sysfs sysfs \
                          rw\n37 31 0:33 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:18 - \
                          cgroup cgroup rw,cpu,cpuacct\n";

    /// Creates the files of `/proc/self`, and files of control groups below `/sys/fs/cgroup`.
    fn host(cgroup: &str, mountinfo: &str, files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a folder");
        let write = |path: PathBuf, text: &str| {
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("created");
            std::fs::write(path, text).expect("written");
        };
        write(root.path().join("proc/self/cgroup"), cgroup);
        write(root.path().join("proc/self/mountinfo"), &format!("{OTHERS}{mountinfo}"));
        for (path, text) in files {
            write(root.path().join("sys/fs/cgroup").join(path), text);
        }
        root
    }

    fn limit(cgroup: &str, mountinfo: &str, files: &[(&str, &str)]) -> Option<u64> {
        memory_limit(host(cgroup, mountinfo, files).path(), PHYSICAL)
    }

    /// The content of `/proc/self/cgroup` and of `/proc/self/mountinfo`, the other files, and the
    /// expected limit.
    type Row<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)], Option<u64>);

    #[test]
    fn the_lowest_limit_of_version_2_applies() {
        let session = "0::/user.slice/user-1000.slice/session-3.scope\n";
        let user = "user.slice/user-1000.slice/memory.max";
        let scope = "user.slice/user-1000.slice/session-3.scope/memory.max";
        let docker = "1234 1220 0:27 / /sys/fs/cgroup ro,nosuid,nodev,noexec,relatime - cgroup2 \
                      cgroup rw,nsdelegate\n";
        let rows: [Row<'_>; 7] = [
            (session, UNIFIED, &[(user, "17179869184\n"), (scope, "max\n")], Some(16 * GIB)),
            (session, UNIFIED, &[(user, "17179869184\n"), (scope, "8589934592\n")], Some(8 * GIB)),
            (session, UNIFIED, &[(user, "max\n"), (scope, "max\n")], None),
            // above the physical memory
            (session, UNIFIED, &[(user, "70368744177664\n")], None),
            // a folder that does not exist, because the group was removed
            (
                "0::/user.slice/a b (deleted)\n",
                UNIFIED,
                &[("user.slice/memory.max", "1073741824")],
                Some(GIB),
            ),
            ("0::/\n", docker, &[("memory.max", "8589934592\n")], Some(8 * GIB)),
            ("0::/\n", UNIFIED, &[], None),
        ];
        for (cgroup, mounts, files, expected) in rows {
            assert_eq!(limit(cgroup, mounts, files), expected, "{cgroup} {files:?}");
        }
    }

    #[test]
    fn the_limits_of_a_slurm_job_apply_to_its_steps() {
        let step = "11:cpuset:/slurm/uid_1000/job_42/step_0\n\
                    9:memory:/slurm/uid_1000/job_42/step_0\n\
                    1:name=systemd:/system.slice/slurmd.service\n0::/\n";
        let (uid, job) = ("memory/slurm/uid_1000", "memory/slurm/uid_1000/job_42");
        let uid_limit = format!("{uid}/memory.limit_in_bytes");
        let job_limit = format!("{job}/memory.limit_in_bytes");
        let step_limit = format!("{job}/step_0/memory.limit_in_bytes");
        let files = [
            ("memory/memory.limit_in_bytes", UNLIMITED),
            ("memory/slurm/memory.limit_in_bytes", UNLIMITED),
            (uid_limit.as_str(), UNLIMITED),
            (job_limit.as_str(), "34359738368\n"),
            (step_limit.as_str(), UNLIMITED),
        ];
        assert_eq!(limit(step, V1_MEMORY, &files), Some(32 * GIB));
        let mut lower = files;
        lower[4].1 = "21474836480\n";
        assert_eq!(limit(step, V1_MEMORY, &lower), Some(20 * GIB));
        // without the hierarchy, the limit of the job does not apply to the step
        let use_hierarchy = format!("{job}/memory.use_hierarchy");
        let flat: Vec<_> = files.into_iter().chain([(use_hierarchy.as_str(), "0\n")]).collect();
        assert_eq!(limit(step, V1_MEMORY, &flat), None);
    }

    #[test]
    fn a_container_without_a_namespace_sees_its_group_at_the_mount_point() {
        let mount = "711 701 0:32 /docker/0123abcd /sys/fs/cgroup/memory ro,nosuid,nodev,noexec,\
                     relatime master:15 - cgroup cgroup rw,memory\n";
        let files = [("memory/memory.limit_in_bytes", "4294967296\n")];
        assert_eq!(limit("4:memory:/docker/0123abcd\n", mount, &files), Some(4 * GIB));
        let inner = [files[0], ("memory/inner/memory.limit_in_bytes", "1073741824\n")];
        assert_eq!(limit("4:memory:/docker/0123abcd/inner\n", mount, &inner), Some(GIB));
        assert_eq!(limit("4:memory:/docker/0123\n", mount, &files), None, "another container");
    }

    #[test]
    fn a_hybrid_hierarchy_has_its_limits_in_version_1() {
        let unified = "43 31 0:38 / /sys/fs/cgroup/unified rw,nosuid,nodev,noexec,relatime \
                       shared:10 - cgroup2 cgroup2 rw,nsdelegate\n";
        let service =
            "5:cpu,memory:/system.slice/runner.service\n0::/system.slice/runner.service\n";
        let files = [
            ("unified/system.slice/runner.service/cgroup.procs", "1\n"),
            ("memory/system.slice/runner.service/memory.limit_in_bytes", "2147483648\n"),
            ("memory/system.slice/memory.limit_in_bytes", UNLIMITED),
        ];
        let mounts = format!("{unified}{V1_MEMORY}");
        assert_eq!(limit(service, &mounts, &files), Some(2 * GIB));
        let host = host(service, &mounts, &files);
        let versions: Vec<_> =
            memory_groups(host.path()).iter().map(|groups| groups.version).collect();
        assert_eq!(versions, [Version::V1, Version::V2]);
    }

    #[test]
    fn paths_outside_of_the_cgroup_namespace_have_no_limit() {
        let files =
            [("memory.max", "1073741824\n"), ("memory/memory.limit_in_bytes", "1073741824\n")];
        for cgroup in ["0::/../..\n", "0::/../other/group\n", "0::/a/../..\n"] {
            assert_eq!(limit(cgroup, UNIFIED, &files), None, "{cgroup}");
        }
        // a mount that was made outside of the namespace contains it
        let outer = UNIFIED.replace("0:27 / /", "0:27 /../.. /");
        assert_eq!(limit("0::/\n", &outer, &files), Some(GIB));
        assert_eq!(limit("0::/..\n", &outer, &files), Some(GIB));
        assert_eq!(limit("0::/../../../x\n", &outer, &files), None);
    }

    #[test]
    fn missing_and_invalid_files_mean_no_limit() {
        let root = tempfile::tempdir().expect("a folder");
        assert_eq!(memory_limit(root.path(), PHYSICAL), None);
        for (cgroup, mounts, value) in [
            ("", "", "1073741824"),
            ("0::", UNIFIED, "-1"),
            ("nonsense\n0\n0:\n", "nonsense\n - \n1 2 3 - cgroup2\n", "1073741824"),
            ("0::/\n", UNIFIED, "nonsense"),
            ("0::/\n", UNIFIED, "0\n"),
        ] {
            assert_eq!(limit(cgroup, mounts, &[("memory.max", value)]), None, "{cgroup:?}");
        }
    }

    #[test]
    fn escapes_in_mount_points_are_replaced() {
        assert_eq!(unescape(r"/sys/fs/a\040b\134c"), r"/sys/fs/a b\c");
        assert_eq!(unescape(r"/a\04"), r"/a\04");
    }
}
