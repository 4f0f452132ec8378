//! Writes the seeds of every entry to `corpus/<entry>`, where cargo-fuzz looks for them.

use std::fs;
use std::path::Path;

fn main() -> std::io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for (name, _) in postrider_fuzz::ENTRIES {
        let of_entry = folder.join(name);
        fs::create_dir_all(&of_entry)?;
        for (number, seed) in postrider_fuzz::seeds::seeds(name).iter().enumerate() {
            fs::write(of_entry.join(format!("seed-{number:03}")), seed)?;
        }
        let words = postrider_fuzz::seeds::words();
        let escaped = words.iter().map(|word| format!("\"{}\"\n", word.iter().map(|byte| format!("\\x{byte:02x}")).collect::<String>()));
        fs::write(folder.join("words.dict"), escaped.collect::<String>())?;
    }
    Ok(())
}
