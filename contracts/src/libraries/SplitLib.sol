// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @notice Splits fees. Every share rounds down; the provider, who claims, gets what is left, so the parts sum exactly.
library SplitLib {
    struct Shares {
        uint16 royaltyBps;
        uint16 verifierBps;
        uint16 treasuryBps;
        uint16 burnBps;
    }

    struct Parts {
        uint96 provider;
        uint96 royalty;
        uint96 verifiers;
        uint96 treasury;
        uint96 burned;
    }

    function splitDown(uint96 amount, Shares memory shares) internal pure returns (Parts memory parts) {
        parts.royalty = shareDown(amount, shares.royaltyBps);
        parts.verifiers = shareDown(amount, shares.verifierBps);
        parts.treasury = shareDown(amount, shares.treasuryBps);
        parts.burned = shareDown(amount, shares.burnBps);
        parts.provider = amount - parts.royalty - parts.verifiers - parts.treasury - parts.burned;
    }

    function shareDown(uint96 amount, uint256 bps) internal pure returns (uint96) {
        return uint96(uint256(amount) * bps / 10_000);
    }
}
