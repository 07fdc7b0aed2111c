// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";

/// @notice Shares of a pool. Virtual shares and a virtual token make it useless to inflate the price before somebody else's first delegation.
library ShareMath {
    uint256 internal constant VIRTUAL_SHARES = 1e6;
    uint256 internal constant VIRTUAL_TOKENS = 1;

    /// @notice Shares for tokens that come in.
    function toSharesDown(uint256 tokens, uint256 poolTokens, uint256 poolShares) internal pure returns (uint256) {
        return Math.mulDiv(tokens, poolShares + VIRTUAL_SHARES, poolTokens + VIRTUAL_TOKENS);
    }

    /// @notice Tokens for shares that go out.
    function toTokensDown(uint256 shares, uint256 poolTokens, uint256 poolShares) internal pure returns (uint256) {
        return Math.mulDiv(shares, poolTokens + VIRTUAL_TOKENS, poolShares + VIRTUAL_SHARES);
    }
}
