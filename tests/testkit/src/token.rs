//! Access tokens: who a process acts as and what it may do.

use crate::machine::{Machine, SpaceId};
use crate::objects::{ObjectOptions, info};

/// An access token.
#[derive(Debug, Clone, Default)]
pub struct Token {
    /// SIDs as text (`S-1-5-18`) with their attributes, the user first.
    pub sids: Vec<(String, u32)>,
    /// Privileges it has.
    pub privileges: Vec<Privilege>,
}

/// One privilege of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Privilege {
    /// Number, such as 20 for SeDebugPrivilege (winnt.h).
    pub number: u32,
    /// In force now.
    pub enabled: bool,
    /// In force from the start.
    pub by_default: bool,
}

/// The bytes of a SID: revision, number of parts, six bytes of authority in big-endian order, parts ([MS-DTYP] 2.4.2.2).
pub fn sid_bytes(text: &str) -> Vec<u8> {
    let mut parts = text.split('-').skip(2).map(|part| part.parse::<u64>().expect("a number"));
    let authority = parts.next().expect("a SID names its authority");
    let rest: Vec<u64> = parts.collect();
    let mut out = vec![1, u8::try_from(rest.len()).expect("few parts")];
    out.extend(&authority.to_be_bytes()[2..]);
    for part in rest {
        out.extend(u32::try_from(part).expect("32 bits").to_le_bytes());
    }
    out
}

impl Machine {
    /// Makes a token and gives it to a process.
    pub(crate) fn make_token(&mut self, token: &Token, eprocess: u64, session: u32) -> u64 {
        let fixed = self.system.layouts.size("_TOKEN").next_multiple_of(16);
        let entry = self.system.layouts.size("_SID_AND_ATTRIBUTES");
        let bytes: Vec<Vec<u8>> = token.sids.iter().map(|(sid, _)| sid_bytes(sid)).collect();
        let texts: u64 = bytes.iter().map(|sid| sid.len() as u64).sum();
        let sids = fixed;
        let luids = (sids + entry * bytes.len() as u64 + texts).next_multiple_of(8);
        let size = luids + 12 * token.privileges.len() as u64;
        let options = ObjectOptions { info: info::QUOTA, ..ObjectOptions::default() };
        let body = self.object("Token", size, &options);
        let mut text = body + sids + entry * bytes.len() as u64;
        for (index, ((_, attributes), sid)) in (0u64..).zip(token.sids.iter().zip(&bytes)) {
            self.at("_SID_AND_ATTRIBUTES", body + sids + index * entry)
                .set("Sid", text)
                .set("Attributes", u64::from(*attributes));
            self.write(SpaceId::SYSTEM, text, sid);
            text += sid.len() as u64;
        }
        let id = self.fresh_id();
        let mut record = self.at("_TOKEN", body);
        record
            .set("UserAndGroupCount", bytes.len() as u64)
            .set("UserAndGroups", body + sids)
            .set("TokenId.LowPart", id)
            // SYSTEM_LUID, or a logon of its own.
            .set(
                "AuthenticationId.LowPart",
                if bytes.first() == Some(&sid_bytes("S-1-5-18")) { 0x3E7 } else { 0x1_A2B3 },
            )
            .set("TokenType", 1)
            .set("SessionId", u64::from(session))
            .bytes("TokenSource.SourceName", b"User32 \0");
        let bits = |chosen: fn(&Privilege) -> bool| {
            token
                .privileges
                .iter()
                .filter(|privilege| chosen(privilege))
                .fold(0, |mask, p| mask | 1u64 << p.number)
        };
        if record.has("Privileges.Present") {
            record
                .set("Privileges.Present", bits(|_| true))
                .set("Privileges.Enabled", bits(|privilege| privilege.enabled))
                .set("Privileges.EnabledByDefault", bits(|privilege| privilege.by_default));
        } else {
            record.set("PrivilegeCount", token.privileges.len() as u64).set("Privileges", body + luids);
            for (index, privilege) in (0u64..).zip(&token.privileges) {
                let attributes = u32::from(privilege.by_default) | u32::from(privilege.enabled) << 1;
                let at = body + luids + index * 12;
                self.write(SpaceId::SYSTEM, at, &privilege.number.to_le_bytes());
                self.write(SpaceId::SYSTEM, at + 8, &attributes.to_le_bytes());
            }
        }
        // Fast references count in the low bits.
        self.at("_EPROCESS", eprocess).set("Token.Object|Token", body | 5);
        body
    }
}
