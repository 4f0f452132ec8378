//! Flat rows: a nested struct as one array of all its fields, in the order in which the fields were added.
//!
//! Invariant: a row does not show the nesting of its struct, so regrouping the fields changes no stored byte.

/// Implements `Serialize` and `Deserialize` of a struct with `Default` as a flat row. The paths of all fields follow in
/// their stored order. A row may end before a field of `added`, which then has its default.
macro_rules! flat_row {
    ($row:ident: $($($field:ident).+),+; added: $($($late:ident).+),*) => {
        impl $row {
            const STORED_FIELDS: usize = [$(stringify!($($field).+),)+ $(stringify!($($late).+)),*].len();
        }

        impl serde::Serialize for $row {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                use serde::ser::SerializeTuple;
                let mut row = serializer.serialize_tuple($row::STORED_FIELDS)?;
                $(row.serialize_element(&self.$($field).+)?;)+
                $(row.serialize_element(&self.$($late).+)?;)*
                row.end()
            }
        }

        impl<'de> serde::Deserialize<'de> for $row {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<$row, D::Error> {
                struct RowVisitor;

                impl<'de> serde::de::Visitor<'de> for RowVisitor {
                    type Value = $row;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str(concat!("a row of ", stringify!($row)))
                    }

                    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut fields: A) -> Result<$row, A::Error> {
                        use serde::de::Error;
                        let mut row = $row::default();
                        $(
                            let missing = || A::Error::missing_field(stringify!($($field).+));
                            row.$($field).+ = fields.next_element()?.ok_or_else(missing)?;
                        )+
                        $(row.$($late).+ = fields.next_element()?.unwrap_or_default();)*
                        Ok(row)
                    }
                }
                deserializer.deserialize_tuple($row::STORED_FIELDS, RowVisitor)
            }
        }
    };
}

pub(super) use flat_row;

#[cfg(test)]
pub(super) mod tests {
    pub fn hex(row: &[u8]) -> String {
        row.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
