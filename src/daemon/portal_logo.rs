//! The settings of the portal with the operator's logo, a file of the data directory.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use crate::api::logins::{PortalLogo, PortalSettings};
use crate::config::Settings;

/// A larger file is no logo and is left out.
const LOGO_BYTES_MAX: u64 = 256 * 1024;
/// The names of the file, and the types of their content.
const FILES: [(&str, &str); 2] = [("portal-logo.svg", "image/svg+xml"), ("portal-logo.png", "image/png")];

/// The settings in force from now on. `own` has the key of the links.
pub fn settings(settings: &Settings, own: &PortalSettings) -> PortalSettings {
    PortalSettings {
        key: own.key,
        enabled: settings.portal.enabled && settings.ui.enabled,
        name: settings.portal.name.clone(),
        webhooks_max: settings.portal.webhooks_max,
        has_standard_names: settings.svix_whitelabel,
        logo: FILES.iter().find_map(|(name, content_type)| read(&settings.data_dir.join(name), content_type)),
    }
}

fn read(file: &Path, content_type: &'static str) -> Option<Arc<PortalLogo>> {
    let size = fs::metadata(file).ok().filter(fs::Metadata::is_file)?.len();
    if size > LOGO_BYTES_MAX {
        tracing::warn!(file = %file.display(), size, "the logo of the portal is left out: it has more than 256 KiB");
        return None;
    }
    let content = fs::read(file).ok()?;
    Some(Arc::new(PortalLogo { content_type, content: content.into() }))
}
