// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";

/// @notice Splits a redeemed amount. Every share rounds down; the provider, who claims, gets what is left, so the parts sum exactly.
library SplitLib {
    struct Shares {
        uint16 royaltyBps;
        uint16 verifierBps;
        uint16 treasuryBps;
        uint16 burnBps;
    }

    struct Parts {
        uint256 provider;
        uint256 royalty;
        uint256 verifiers;
        uint256 treasury;
        uint256 burned;
    }

    function splitDown(uint256 amount, Shares memory shares) internal pure returns (Parts memory parts) {
        parts.royalty = Math.mulDiv(amount, shares.royaltyBps, 10_000);
        parts.verifiers = Math.mulDiv(amount, shares.verifierBps, 10_000);
        parts.treasury = Math.mulDiv(amount, shares.treasuryBps, 10_000);
        parts.burned = Math.mulDiv(amount, shares.burnBps, 10_000);
        parts.provider = amount - parts.royalty - parts.verifiers - parts.treasury - parts.burned;
    }
}
