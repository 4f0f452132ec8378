//! The program's own name in commands that it tells people to type.

use std::ffi::OsStr;
use std::path::Path;

const NAME: &str = "postrider";

/// How this program is called from here: by its name if the shell finds it, below the current directory by its relative
/// path.
pub fn program() -> String {
    let Ok(path) = std::env::current_exe() else { return NAME.to_owned() };
    if is_in_path(&path, &std::env::var_os("PATH").unwrap_or_default()) {
        return NAME.to_owned();
    }
    let here = std::env::current_dir().unwrap_or_default();
    shown(&path, &here)
}

/// Whether the first `postrider` of the search path is this program.
fn is_in_path(program: &Path, search_path: &OsStr) -> bool {
    let first = std::env::split_paths(search_path).map(|folder| folder.join(NAME)).find(|path| path.is_file());
    first.and_then(|path| path.canonicalize().ok()).is_some_and(|path| path == program)
}

fn shown(program: &Path, here: &Path) -> String {
    match program.strip_prefix(here) {
        Ok(below) if below.components().count() > 1 => below.display().to_string(),
        Ok(below) => format!("./{}", below.display()),
        Err(_) => program.display().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_called_by_its_name_where_the_shell_finds_it() {
        let folder = tempfile::tempdir().expect("a directory");
        let here = folder.path().canonicalize().expect("its path");
        let program = here.join(NAME);
        assert!(!is_in_path(&program, here.as_os_str()));
        std::fs::write(&program, "").expect("written");
        assert!(is_in_path(&program, here.as_os_str()));
        assert!(!is_in_path(Path::new("/opt/postrider"), here.as_os_str()), "another one comes first");
    }

    #[test]
    fn the_program_is_called_as_a_shell_would_find_it() {
        let shown = |program: &str| shown(Path::new(program), Path::new("/src/p"));
        assert_eq!(shown("/src/p/target/release/postrider"), "target/release/postrider");
        assert_eq!(shown("/src/p/postrider"), "./postrider");
        assert_eq!(shown("/usr/bin/postrider"), "/usr/bin/postrider");
    }
}
