// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Test} from "forge-std/Test.sol";

import {ShareMath} from "../../src/libraries/ShareMath.sol";
import {SplitLib} from "../../src/libraries/SplitLib.sol";
import {ThawLib} from "../../src/libraries/ThawLib.sol";

/// @notice Checked symbolically by halmos: `make prove`. Widths are as large as its solver decides in minutes.
contract ArithmeticTest is Test {
    /// @dev Property 7.
    function check_split__parts_sum_to_the_amount(uint24 amount, uint8 royalty, uint8 verifiers, uint8 treasury, uint8 burn) public pure {
        SplitLib.Parts memory p = SplitLib.splitDown(amount, SplitLib.Shares(royalty, verifiers, treasury, burn));
        assert(uint256(p.provider) + p.royalty + p.verifiers + p.treasury + p.burned == amount);
    }

    function check_share__never_above_the_amount(uint32 amount, uint8 bps) public pure {
        assert(SplitLib.shareDown(amount, bps) <= amount);
    }

    /// @dev Property 8, with what the fuzz tests of `Staking.delegate` try at full width.
    function check_shares__never_pay_more_than_the_pool(uint8 shares, uint8 poolTokens, uint8 poolShares) public pure {
        vm.assume(shares <= poolShares && poolTokens < 8 && poolShares < 8);
        assert(ShareMath.toTokensDown(shares, poolTokens, poolShares) <= poolTokens);
    }

    /// @dev Property 9: a bucket never ends before the period, and at most one width after it.
    function check_thaw__ends_in_time(uint40 time, uint32 period) public pure {
        uint256 width = 128;
        uint256 end = uint256(ThawLib.bucketAt(time, period, width)) * width;
        vm.assume((uint256(time) + period) / width < type(uint32).max - 1);
        assert(end >= uint256(time) + period && end < uint256(time) + period + width);
    }

    /// @dev A bucket that has ended is not live, and one that has not is.
    function check_thaw__live_until_its_end(uint40 time, uint32 bucket) public pure {
        uint256 width = 128;
        vm.assume(uint256(time) / width < type(uint32).max - 1);
        assert((uint256(bucket) * width <= time) == (bucket < ThawLib.firstLive(time, width)));
    }

    /// @dev Cumulative vouchers in any order take, together, what the highest says and no more.
    function check_voucher__any_order_takes_the_highest(uint96 first, uint96 second, uint96 third) public pure {
        uint128 redeemed;
        uint256 taken;
        uint96[3] memory vouchers = [first, second, third];
        for (uint256 i; i < 3; ++i) {
            if (vouchers[i] <= redeemed) continue;
            taken += vouchers[i] - redeemed;
            redeemed = vouchers[i];
        }
        assert(taken == redeemed && redeemed >= first && redeemed >= second && redeemed >= third);
    }
}
